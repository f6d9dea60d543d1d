"""WebDataset's tars: samples by key, in order, read at their offsets, and bad ones."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

from personax.data.sets import open_set
from personax.data.tars import open_tars


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where sizes are kept between starts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def png(value, shape=(20, 30)):
    file = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(path, files, mode="w"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(tmp_path):
    """Two tars: captions in text, in JSON, in both, or none."""
    both = json.dumps({"caption": "from json", "tags": "x"}).encode()
    first = {
        "s/0001.txt": b" one\n",
        "s/0001.png": png(1),
        "s/0000.png": png(2),
        "s/0000.json": both,
        "s/0002.jpg.txt": b"of no picture",
    }
    second = {
        "0003.png": png(3, (64, 16)),
        "0003.txt": b"three",
        "0003.json": both,
        "0003.cls": b"7",
        "0004.PNG": png(4),
        "0005.json": both,
    }
    write(tmp_path / "set" / "a-00.tar", first)
    write(tmp_path / "set" / "a-01.tar", second)
    return tmp_path / "set"


def seen(pictures):
    found = [pictures.picture(i) for i in range(len(pictures))]
    return [(int(each.pixels.mean()), each.caption) for each in found]


EXPECTED = [(1, "one"), (2, "from json"), (3, "three"), (4, "")]


@pytest.mark.parametrize(
    "pattern", ["", "/a-{00..01}.tar", "/a-0{0,1}.tar", "/a-*.tar", "/a-0[01].tar"]
)
def test_samples_are_in_the_order_of_their_tars(shards, pattern):
    pictures = open_set(f"wds:{shards}{pattern}")
    assert seen(pictures) == EXPECTED
    assert pictures.captioned
    assert pictures.sizes().tolist() == [[20, 30], [20, 30], [64, 16], [20, 30]]
    assert seen(pickle.loads(pickle.dumps(pictures))) == EXPECTED


def test_tars_are_joined_in_the_order_that_is_given(shards):
    pictures = open_tars(f"{shards}/a-01.tar::{shards}/a-00.tar")
    assert seen(pictures) == EXPECTED[2:] + EXPECTED[:2]
    assert pictures.digest() != open_tars(str(shards)).digest()


def test_its_digest_changes_with_the_tars(shards):
    before = open_tars(str(shards)).digest()
    assert open_tars(str(shards)).digest() == before
    write(shards / "a-01.tar", {"0003.png": png(5)})
    assert open_tars(str(shards)).digest() != before


def test_a_column_of_the_json_is_the_caption(shards):
    pictures = open_set(f"wds:{shards}", caption_column="tags")
    assert seen(pictures) == [(1, "one"), (2, "x"), (3, "x"), (4, "")]
    with pytest.raises(ValueError, match="no column 'tag'; it has: caption, tags"):
        open_set(f"wds:{shards}", caption_column="tag")


def test_pictures_without_captions_say_so(tmp_path):
    file = write(tmp_path / "x.tar", {"1.png": png(1)})
    assert not open_tars(str(file)).captioned
    with pytest.raises(ValueError, match=r"has no \.json with a column 'tags'"):
        open_tars(str(file), column="tags")


def test_an_unreadable_picture_or_caption_is_named(tmp_path):
    files = {"1.png": b"no", "2.png": png(2), "2.json": b"{", "3.png": png(2)}
    files |= {"3.txt": b"three"}
    pictures = open_tars(str(write(tmp_path / "x.tar", files)))
    with pytest.raises(ValueError, match=r"x\.tar/1 cannot be read as a picture"):
        pictures.picture(0)
    with pytest.raises(ValueError, match=r"caption .*x\.tar/2\.json is not valid JSON"):
        pictures.picture(1)
    assert pictures.sizes().tolist() == [[1, 1], [20, 30], [20, 30]]


def test_a_damaged_tar_is_named(shards):
    file = shards / "a-00.tar"
    whole = file.read_bytes()

    def refused(data, sentence):
        file.write_bytes(data)
        with pytest.raises(ValueError, match=sentence) as error:
            open_tars(str(shards))
        assert str(file) in str(error.value)
        assert "\n" not in str(error.value)

    refused(whole[:700], "cannot be read as a tar: unexpected end of data")
    refused(b"no tar" * 200, "cannot be read as a tar")
    # The header of the second file, which tarfile alone would take for the end.
    refused(whole[:1024] + b"\xff" * 512 + whole[1536:], "no valid header at byte 1024")
    refused(b"", "cannot be read as a tar: empty file")


def test_what_is_no_set_of_tars_is_refused(tmp_path):
    packed = write(tmp_path / "x.tar.gz", {"1.png": png(1)}, "w:gz")
    with pytest.raises(ValueError, match=r"as a tar: .*; unpack a compressed one"):
        open_tars(str(packed))
    with pytest.raises(FileNotFoundError, match=r"has no \.tar file"):
        open_tars(str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"There is no tar /nowhere-02\.tar"):
        open_tars("/nowhere-{02..10}.tar")
    empty = write(tmp_path / "x.tar", {"1.txt": b"a dog"})
    with pytest.raises(ValueError, match=r"x\.tar holds no picture"):
        open_tars(str(empty))

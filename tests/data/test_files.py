"""Pictures in folders and zips: which, in what order, called what, and the bad ones."""

import json
import pickle
import zipfile

import numpy as np
import pytest
from PIL import Image

from personax.data import headers
from personax.data.files import open_files


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where sizes are kept between starts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def save(path, shape=(20, 30), value=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((*shape, 3), value, np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return pixels


@pytest.fixture
def folder(tmp_path):
    """Pictures in three folders, their captions in three ways or none."""
    root = tmp_path / "set"
    save(root / "b.png", value=1)
    save(root / "a" / "2.png", value=2)
    (root / "a" / "2.txt").write_text("two\n")
    save(root / "a" / "10.jpg", value=3)
    save(root / "c" / "deep" / "x.png", (64, 16), value=4)
    line = {"file_name": "x.png", "text": "ex"}
    (root / "c" / "deep" / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    save(root / "a" / "._2.png")
    (root / "notes.txt").write_text("nothing")
    return root


def values(pictures):
    return [int(pictures.picture(i).pixels.mean()) for i in range(len(pictures))]


def test_a_folder_is_read_with_all_below_it_by_name(folder):
    pictures = open_files(str(folder))
    names = [entry.name for entry in pictures.entries]
    assert names == ["a/10.jpg", "a/2.png", "b.png", "c/deep/x.png"]
    assert values(pictures) == [3, 2, 1, 4]
    captions = [pictures.picture(i).caption for i in range(4)]
    assert captions == ["", "two", "", "ex"]
    assert pictures.captioned
    assert pictures.sizes().tolist() == [[20, 30], [20, 30], [20, 30], [64, 16]]


def test_a_listing_above_speaks_for_the_pictures_below(folder):
    line = {"file_name": "a/2.png", "text": "from above"}
    (folder / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    pictures = open_files(str(folder))
    captions = {entry.name: entry.caption for entry in pictures.entries}
    assert captions["a/2.png"] == "from above"
    assert captions["c/deep/x.png"] == "ex"
    assert len(pictures) == 4


@pytest.mark.parametrize("packed", [False, True])
def test_captions_may_be_in_csv_or_caption_files(folder, tmp_path, packed):
    (folder / "a" / "10.caption").write_text("ten\n")
    listing = "file_name,text,tags\nb.png,bee,insect\n"
    (folder / "metadata.csv").write_text(listing)
    source = folder
    if packed:
        source = tmp_path / "set.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for path in folder.rglob("*"):
                archive.write(path, path.relative_to(folder))
    captions = [entry.caption for entry in open_files(str(source)).entries]
    assert captions == ["ten", "two", "bee", "ex"]
    (folder / "c" / "deep" / "metadata.jsonl").unlink()
    with pytest.raises(ValueError, match="no column 'tag'; it has: file_name, text, t"):
        open_files(str(folder), column="tag")
    tagged = [entry.caption for entry in open_files(str(folder), column="tags").entries]
    assert tagged == ["ten", "two", "insect", ""]


def test_a_zip_holds_the_same_and_is_not_unpacked(folder, tmp_path):
    file = tmp_path / "set.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(folder))
    before = sorted(tmp_path.iterdir())
    pictures, same = open_files(str(file)), open_files(str(folder))
    assert values(pictures) == values(same)
    shown = [(entry.name, entry.caption) for entry in pictures.entries]
    assert shown == [(entry.name, entry.caption) for entry in same.entries]
    np.testing.assert_array_equal(pictures.sizes(), same.sizes())
    again = pickle.loads(pickle.dumps(pictures))
    assert values(again) == values(pictures)
    assert set(tmp_path.iterdir()) - set(before) <= {tmp_path / "home"}


def test_a_picture_without_a_readable_header_is_named_and_left_out(folder):
    (folder / "a" / "5.png").write_text("no picture")
    save(folder / "a" / "6.png", (40, 15))
    pictures = open_files(str(folder))
    assert len(pictures) == 4
    assert "a/5.png cannot be read as a picture" in pictures.skipped[0]
    assert pictures.skipped[1] == "a/6.png is 15x40 pixels; both sides must have 16."


def test_a_picture_that_is_cut_off_is_named_when_it_is_read(folder):
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").write_bytes(whole[:60])
    pictures = open_files(str(folder))
    assert pictures.skipped == ()
    with pytest.raises(ValueError, match=r"set/b\.png cannot be read as a picture"):
        pictures.picture(2)


def test_nothing_but_bad_pictures_is_refused(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"None of the 1 pictures in .* can be read"):
        open_files(str(tmp_path))
    (tmp_path / "a.png").unlink()
    with pytest.raises(ValueError, match="holds no picture"):
        open_files(str(tmp_path))
    (tmp_path / "x").write_text("x")
    with pytest.raises(
        ValueError, match="x cannot be read as a zip: File is not a zip"
    ):
        open_files(str(tmp_path / "x"))


def test_sizes_are_those_of_the_upright_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its side
    save(tmp_path / "a.jpg", (20, 48), exif=exif)
    pictures = open_files(str(tmp_path))
    assert pictures.sizes().tolist() == [[48, 20]]
    assert pictures.picture(0).pixels.shape == (48, 20, 3)


def test_sizes_are_read_once_and_again_where_a_file_has_changed(folder, monkeypatch):
    asked = []
    real = headers._header

    def count(name, open_file):
        asked.append(name)
        return real(name, open_file)

    monkeypatch.setattr(headers, "_header", count)
    first = open_files(str(folder))
    assert len(asked) == 4
    again = open_files(str(folder))
    assert len(asked) == 4
    np.testing.assert_array_equal(first.sizes(), again.sizes())
    save(folder / "b.png", (33, 44))
    changed = open_files(str(folder))
    assert asked[4:] == ["b.png"]
    assert changed.sizes().tolist()[2] == [33, 44]
    assert first.digest() == again.digest() != changed.digest()


@pytest.mark.parametrize("line", ["{", '{"text": "no name"}', "3"])
def test_a_zip_s_listing_that_is_none_is_refused(tmp_path, line):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("metadata.jsonl", line)
    with pytest.raises(ValueError, match=r"Line 1 of .*a\.zip/metadata.jsonl is not"):
        open_files(str(tmp_path / "a.zip"))

"""FFHQ and AFHQv2 built from a folder or a zip and read again, without TensorFlow."""

import pathlib
import pickle
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from personax.build import build
from personax.data.sets import open_set


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where sizes are kept between starts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def save(path, value, shape=(24, 24)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(path)


@pytest.fixture
def faces(tmp_path):
    """FFHQ's layout, one picture of five damaged."""
    for number in range(5):
        folder = tmp_path / "images1024x1024" / f"{number // 3 * 1000:05d}"
        save(folder / f"{number:05d}.png", 10 * number, (24, 24 + number))
    file = tmp_path / "images1024x1024" / "00000" / "00001.png"
    data = bytearray(file.read_bytes())
    data[50] ^= 255
    file.write_bytes(data)
    return tmp_path / "images1024x1024"


def to_zip(folder, file):
    with zipfile.ZipFile(file, "w") as archive:
        for path in folder.rglob("*"):
            archive.write(path, path.relative_to(folder.parent))
    return file


@pytest.mark.parametrize("packed", [False, True])
def test_ffhq_is_built_and_read_as_it_was(faces, tmp_path, packed, capsys):
    source = to_zip(faces, tmp_path / "faces.zip") if packed else faces
    builder = build("ffhq", str(source), str(tmp_path / "out"))
    assert builder.info.splits["train"].num_examples == 4
    assert "skipped (1 so far): " in capsys.readouterr().out
    pictures = open_set("tfds:ffhq", data_dir=str(tmp_path / "out"))
    again = pickle.loads(pickle.dumps(pictures))
    values = [int(again.picture(i).pixels[0, 0, 0]) for i in range(len(pictures))]
    assert values == [0, 20, 30, 40]
    assert not pictures.captioned
    assert pictures.sizes().tolist() == [[24, 24 + i] for i in (0, 2, 3, 4)]
    assert "tensorflow" not in sys.modules
    part = open_set("tfds:ffhq", data_dir=str(tmp_path / "out"), split="train[2:]")
    assert part.picture(0).pixels[0, 0, 0] == 30
    assert part.digest() != pictures.digest() == again.digest()


def test_afhqv2_has_two_splits_and_its_labels_as_captions(tmp_path):
    for i, where in enumerate(("train/dog", "train/cat", "test/wild", "train/other")):
        save(tmp_path / "afhq" / where / f"{i}.png", 10 * i)
    build("afhqv2", str(tmp_path / "afhq"), str(tmp_path / "out"))
    data = {"data_dir": str(tmp_path / "out")}
    pictures = open_set("tfds:afhqv2", split="train+test", **data)
    seen = [pictures.picture(i) for i in range(len(pictures))]
    shown = [(int(each.pixels[0, 0, 0]), each.caption) for each in seen]
    assert shown == [(10, "cat"), (0, "dog"), (20, "wild")]
    with pytest.raises(ValueError, match="Unknown split 'valid'"):
        open_set("tfds:afhqv2", split="valid", **data)


def test_a_set_in_another_format_is_refused(faces, tmp_path):
    builder = build("ffhq", str(faces), str(tmp_path / "out"))
    about = pathlib.Path(builder.data_dir) / "dataset_info.json"
    about.write_text(about.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="stored as tfrecord, which cannot be read by"):
        open_set("tfds:ffhq", data_dir=str(tmp_path / "out"))


def test_what_cannot_be_built_or_read_is_refused(tmp_path, monkeypatch):
    save(tmp_path / "in" / "a.png", 0)
    with pytest.raises(ValueError, match="'ffqh'; expected one of ffhq, afhqv2"):
        build("ffqh", str(tmp_path / "in"))
    with pytest.raises(FileNotFoundError, match="no folder or zip /nowhere"):
        build("ffhq", "/nowhere")
    with pytest.raises(ValueError, match=r"has no train/{cat,dog,wild}/\*\.png"):
        build("afhqv2", str(tmp_path / "in"), str(tmp_path / "out"))
    with pytest.raises(ValueError, match="no data set tfds:nosuch in"):
        open_set("tfds:nosuch", data_dir=str(tmp_path))
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'personax\[data\]'"):
        open_set("tfds:ffhq", data_dir=str(tmp_path))
    with pytest.raises(ValueError, match=r"pip install 'personax\[data\]'"):
        build("ffhq", str(tmp_path / "in"))

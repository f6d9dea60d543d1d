"""Hugging Face data sets on disk: columns, splits, captions, and what is refused."""

import io
import pickle
import sys

import numpy as np
import pytest
from PIL import Image

from personax.data.sets import open_set

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where sizes are kept between starts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def png(value, shape=(20, 30)):
    file = io.BytesIO()
    Image.fromarray(np.full((*shape, 3), value, np.uint8)).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


def rows(*values, **columns):
    image = [png(value, (20 + value, 30)) for value in values]
    features = {"image": datasets.Image(), "mask": datasets.Image()}
    kinds = {name: columns.pop(name) for name in ("label",) if name in columns}
    labels = {}
    if kinds:
        features["label"] = datasets.ClassLabel(names=["cat", "red_fox"])
        labels = {"label": kinds["label"]}
    for name, texts in columns.items():
        kind = datasets.Value("string")
        features[name] = datasets.List(kind) if isinstance(texts[0], list) else kind
    data = {"image": image, "mask": [png(0)] * len(values), **labels, **columns}
    return datasets.Dataset.from_dict(data, datasets.Features(features))


def saved(tmp_path, value):
    value.save_to_disk(str(tmp_path / "set"))
    return f"hf:{tmp_path / 'set'}"


def seen(pictures):
    found = [pictures.picture(i) for i in range(len(pictures))]
    return [(int(each.pixels.mean()), each.caption) for each in found]


def test_pictures_are_read_with_their_captions(tmp_path):
    source = saved(tmp_path, rows(1, 2, text=["one", "two"], tags=["a, b", "c"]))
    pictures = open_set(source)
    assert seen(pictures) == [(1, "one"), (2, "two")]
    assert pictures.captioned
    assert pictures.sizes().tolist() == [[21, 30], [22, 30]]
    again = pickle.loads(pickle.dumps(pictures))
    assert seen(again) == seen(pictures)
    assert again.digest() == pictures.digest()
    tagged = open_set(source, caption_column="tags")
    assert seen(tagged) == [(1, "a, b"), (2, "c")]
    assert tagged.digest() != pictures.digest()
    masks = open_set(source, image_column="mask")
    assert [value for value, _ in seen(masks)] == [0, 0]


def test_the_split_is_chosen(tmp_path):
    parts = {"train": rows(1), "test": rows(2, 3)}
    source = saved(tmp_path, datasets.DatasetDict(parts))
    assert [value for value, _ in seen(open_set(source))] == [1]
    assert [value for value, _ in seen(open_set(source, split="test"))] == [2, 3]
    with pytest.raises(ValueError, match="no split 'valid'; it has: train, test"):
        open_set(source, split="valid")


def test_labels_and_lists_are_captions(tmp_path):
    labels = saved(tmp_path / "labels", rows(1, 2, label=[1, 0]))
    assert seen(open_set(labels)) == [(1, "red fox"), (2, "cat")]
    lists = saved(tmp_path / "lists", rows(1, 2, caption=[["a", "b"], ["c"]]))
    assert seen(open_set(lists)) == [(1, "a"), (2, "c")]
    assert not open_set(saved(tmp_path / "none", rows(1))).captioned


def test_what_does_not_exist_is_refused(tmp_path, monkeypatch):
    source = saved(tmp_path, rows(1, text=["one"]))
    with pytest.raises(ValueError, match="no column 'txt'; it has: image, mask, text"):
        open_set(source, caption_column="txt")
    with pytest.raises(
        ValueError, match="in the column 'text'; of pictures it has: im"
    ):
        open_set(source, image_column="text")
    with pytest.raises(FileNotFoundError, match="no folder /nowhere"):
        open_set("hf:/nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty cannot be read"):
        open_set(f"hf:{tmp_path / 'empty'}")
    (next((tmp_path / "set").glob("*.arrow"))).write_bytes(b"no")
    with pytest.raises(ValueError, match="set cannot be read"):
        open_set(source)
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r"pip install 'personax\[hf\]'"):
        open_set(source)


def test_a_damaged_file_is_named(tmp_path):
    texts = ["a dog", "a dog", "a dog", "a dog"]
    source = saved(tmp_path, rows(1, 2, 3, 4, text=texts))
    (file,) = (tmp_path / "set").glob("*.arrow")
    whole = file.read_bytes()

    def replace(data):
        file.unlink()  # others may have it mapped
        file.write_bytes(data)

    at = whole.index(b"\x89PNG") + 20
    replace(whole[:at] + bytes(8) + whole[at + 8 :])
    pictures = open_set(source)
    with pytest.raises(ValueError, match=r"picture 0 of hf:.* cannot be read"):
        pictures.picture(0)
    assert pictures.picture(1).caption == "a dog"
    offsets = np.array([0, 5, 10, 15, 20], "<i4")
    assert whole.count(offsets.tobytes()) == 1
    damaged = np.array([0, 5, 2**30, 15, 20], "<i4")
    replace(whole.replace(offsets.tobytes(), damaged.tobytes()))
    with pytest.raises(ValueError, match=r"hf:.* is damaged"):
        open_set(source)
    for length in (0, 99, len(whole) // 2):
        replace(whole[:length])
        with pytest.raises(ValueError, match=r"hf:.* cannot be read"):
            open_set(source)

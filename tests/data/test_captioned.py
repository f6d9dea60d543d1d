"""Captioned pictures: every layout that is read, and every one that is refused."""

import csv
import json

import pytest
from PIL import Image

from personax.data.captioned import Captioned, read_captioned, write_captioned

pytestmark = pytest.mark.quick


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.JPG"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    return tmp_path


@pytest.fixture
def both(folder):
    return [
        Captioned(folder / "b.JPG", "a cat, asleep\u2028at night"),
        Captioned(folder / "a.png", "a dog"),
    ]


def _lines(path, *lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def _entry(name, text):
    return json.dumps({"file_name": name, "text": text})


def test_texts_beside_the_pictures(folder, both):
    (folder / "a.txt").write_text(" a dog\n")
    (folder / "b.txt").write_text(both[0].caption)
    (folder / "._a.png").write_bytes(b"left by a file system")
    assert read_captioned(folder) == both[::-1]


def test_kohya_s_texts_have_another_suffix(folder):
    (folder / "a.caption").write_text("a dog\n")
    (folder / "b.caption").write_text("not read")
    (folder / "b.txt").write_text("a cat")
    assert [words for _, words in read_captioned(folder)] == ["a dog", "a cat"]


ROWS = {"file_name": "a.png", "text": "", "caption": "a dog", "tags": "dog, grass"}


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_captions_are_in_the_column_that_is_named(folder, name):
    (folder / "b.JPG").unlink()
    if name.endswith(".csv"):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, ROWS)
            writer.writeheader()
            writer.writerow(ROWS)
    else:
        _lines(folder / name, json.dumps(ROWS))
    for source in (folder, folder / name):
        assert read_captioned(source) == [(folder / "a.png", "a dog")]
        (own,) = read_captioned(source, column="tags")
        assert own.caption == "dog, grass"
        columns = "it has: file_name, text, caption, tags"
        with pytest.raises(
            ValueError, match=f"Line . of .* no column 'tag'; {columns}"
        ):
            read_captioned(source, column="tag")


def test_without_a_caption_the_columns_are_told(folder):
    _lines(folder / "metadata.csv", "file_name,prompt", "a.png,a dog", "b.JPG,a cat")
    with pytest.raises(
        ValueError, match=r"a\.png has no .*metadata\.csv has the columns"
    ):
        read_captioned(folder)
    captions = [words for _, words in read_captioned(folder, column="prompt")]
    assert captions == ["a dog", "a cat"]


def test_an_imagefolder(folder, both):
    lines = (_entry("b.JPG", both[0].caption), "", _entry("./a.png", "a dog"))
    _lines(folder / "metadata.jsonl", *lines)
    assert read_captioned(str(folder)) == both


def test_the_layout_of_custom_diffusions_retrieval(folder, both, monkeypatch):
    _lines(folder / "caption.txt", both[0].caption, "a dog")
    _lines(folder / "images.txt", "b.JPG", "a.png")
    assert read_captioned(folder) == both
    # The released scripts write the paths as seen from where they ran.
    _lines(folder / "images.txt", f"{folder.name}/b.JPG", f"{folder.name}/a.png")
    monkeypatch.chdir(folder.parent)
    assert read_captioned(folder.name) == [
        Captioned(path.relative_to(folder.parent), words) for path, words in both
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv", ".txt"])
def test_a_list_of_pictures_elsewhere(folder, both, suffix):
    (folder / "lists").mkdir()
    write = _entry if suffix == ".jsonl" else "{}\t{}".format
    pairs = ((f"../{path.name}", words) for path, words in both)
    lines = _lines(folder / f"lists/all{suffix}", *(write(*pair) for pair in pairs))
    entries = read_captioned(lines)
    assert [Captioned(path.resolve(), words) for path, words in entries] == both


def test_a_picture_may_be_listed_twice(folder):
    listing = _lines(folder / "list.tsv", "a.png\tone", "a.png\ttwo")
    assert [words for _, words in read_captioned(listing)] == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.txt", ["a dog"]),
        ("metadata.jsonl", [_entry("a.png", "a dog")]),
        ("metadata.jsonl", [_entry("a.png", "a dog"), '{"file_name": "b.JPG"}']),
        ("list.tsv", ["a.png\ta dog", "b.JPG"]),
    ],
)
def test_a_picture_without_a_caption_gets_the_one_given(folder, name, lines):
    written = _lines(folder / name, *lines)
    source = written if name == "list.tsv" else folder
    captions = [words for _, words in read_captioned(source, caption="a pet")]
    assert captions == ["a dog", "a pet"]
    with pytest.raises(ValueError, match=r"b\.JPG has no caption"):
        read_captioned(source)


def test_what_is_written_is_read(folder, both):
    write_captioned(folder, {"a.png": "old"})
    write_captioned(folder, {path.name: words for path, words in both})
    assert read_captioned(folder) == both
    assert {file.name for file in folder.iterdir()} == {
        "a.png",
        "b.JPG",
        "metadata.jsonl",
    }


def test_a_writer_that_is_stopped_leaves_the_old_captions(folder, monkeypatch):
    write_captioned(folder, {"a.png": "old", "b.JPG": "old"})

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_captioned(folder, {"a.png": "new"})
    assert [words for _, words in read_captioned(folder)] == ["old", "old"]


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(ValueError, match="no folder or list of pictures"):
        read_captioned(tmp_path / "nowhere")


def test_an_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no picture; it is empty"):
        read_captioned(tmp_path)


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("list.tsv", "c.png\ta fox", r"list\.tsv names the picture .*c\.png, which"),
        ("list.txt", "some words", "some words, which does not exist"),
        ("list.jsonl", "a.png", r"Line 1 of .* is not of the form"),
        ("list.jsonl", '{"name": "a.png"}', r"Line 1 of .* is not of the form"),
        ("list.jsonl", '["a.png"]', r"Line 1 of .* is not of the form"),
        ("list.jsonl", _entry("a.png", 3), r"Line 1 of .* is not of the form"),
        ("list.jsonl", _entry("c.png", ""), r"c\.png, which does not exist"),
        ("list.csv", "a.png,a dog", r"no column file_name; it has: a\.png, a dog"),
        ("list.csv", "file_name,text\na.png", r"Line 2 of .* does not have 2 values"),
        ("list.csv", "file_name,text\na.png,a,b", r"Line 2 of .* not have 2 values"),
        ("list.csv", 'file_name,text\na.png,"a', r"Line 1 of .*unexpected end"),
        ("list.csv", "file_name,text\nc.png,a", r"c\.png, which does not exist"),
        ("list.ini", "a.png", r"is not a list of pictures; expected a \.jsonl, \.csv"),
        ("list.tsv", "", r"holds no picture"),
    ],
)
def test_a_foreign_list_is_refused(folder, name, line, sentence):
    listing = _lines(folder / name, line)
    with pytest.raises(ValueError, match=sentence):
        read_captioned(listing)


def test_a_list_that_is_no_text_is_refused(folder):
    (folder / "list.txt").write_bytes((folder / "a.png").read_bytes())
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        read_captioned(folder / "list.txt")


def test_unequal_line_counts_are_told(folder):
    _lines(folder / "images.txt", "a.png", "b.JPG")
    _lines(folder / "caption.txt", "a dog", "a cat", "a fox")
    with pytest.raises(ValueError, match=r"2 lines in images\.txt but 3 in caption"):
        read_captioned(folder)

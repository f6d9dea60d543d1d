"""Of a folder or an archive: what is read, and one line on what is not."""

import io
import sys
import tarfile
import types
import zipfile

import numpy as np
import pytest
from PIL import Image, features

from personax.core import decoding, images
from personax.core.listing import is_hidden
from personax.data import concepts
from personax.data.captioned import read_captioned
from personax.data.files import open_files
from personax.data.published import read_subjects
from personax.data.tars import open_tars


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where sizes are kept between starts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def save(path, value=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((20, 20, 3), value, np.uint8)).save(path, **options)


def said(capsys):
    """The lines on stderr, except of progress."""
    lines = capsys.readouterr().err.splitlines()
    return [line for line in lines if line.startswith("personax: ")]


@pytest.fixture
def root(tmp_path):
    """A folder like a telephone's, edited on several systems."""
    root = tmp_path / "set"
    for name in ("0.png", ".ipynb_checkpoints/0.png", ".thumbnails/0.png"):
        save(root / name)
    for name in ("__MACOSX/0.png", "@eaDir/0.png", "below/1.png", "._0.png"):
        save(root / name, 9)
    (root / "IMG_1.HEIC").write_bytes(b"heic")
    (root / "0.txt").write_text("a dog")
    (root / ".DS_Store").write_text("x")
    (root / "Thumbs.db").write_text("x")
    return root


def test_what_is_left_of_a_concept_s_folder_is_said(root, capsys):
    assert len(concepts.pictures(str(root))) == 1
    (line,) = said(capsys)
    assert f"1 picture in {root}; not read: IMG_1.HEIC, below/" in line
    assert "HEIC needs pip install 'personax[heif]'" in line
    assert "captions (0.txt) are not used; concept.captions own" in line
    for hidden in ("ipynb", "MACOSX", "eaDir", "DS_Store", "Thumbs"):
        assert hidden not in line
    assert len(concepts.own_pictures(str(root))) == 1
    (line,) = said(capsys)
    assert "not read: IMG_1.HEIC, below/" in line
    assert "captions" not in line


def test_nothing_is_said_where_all_is_read(tmp_path, capsys):
    save(tmp_path / "0.png")
    save(tmp_path / "1.png")
    concepts.pictures(str(tmp_path))
    images.read_images(tmp_path)
    read_captioned(tmp_path, caption="a dog")
    assert said(capsys) == []


def test_hidden_folders_are_in_no_stream(root, capsys):
    pictures = open_files(str(root))
    assert [entry.name for entry in pictures.entries] == ["0.png", "below/1.png"]
    (line,) = said(capsys)
    assert f"2 pictures in {root}; not read: " in line
    assert "IMG_1.HEIC" in line
    assert ".ipynb_checkpoints/" in line


def test_a_hidden_folder_that_is_named_is_read(tmp_path):
    save(tmp_path / ".data" / "0.png")
    assert len(open_files(str(tmp_path / ".data"))) == 1
    assert len(concepts.pictures(str(tmp_path / ".data"))) == 1


def test_an_archive_is_read_as_its_folder(root, tmp_path, capsys):
    files = [path for path in root.rglob("*") if path.is_file()]
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for path in files:
            file.write(path, path.relative_to(root))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for path in files:
            tar.add(path, path.relative_to(root))
    pictures = open_files(str(tmp_path / "a.zip"))
    assert [entry.name for entry in pictures.entries] == ["0.png", "below/1.png"]
    assert pictures.picture(0).caption == "a dog"
    (line,) = said(capsys)
    assert "a.zip; not read: IMG_1.HEIC (HEIC needs" in line
    pictures = open_tars(str(tmp_path / "a.tar"))
    assert sorted(sample.key for sample in pictures.samples) == ["0", "below/1"]
    (line,) = said(capsys)
    assert "a.tar; not read: IMG_1.HEIC (HEIC needs" in line


def test_linked_folders_are_followed_once(tmp_path):
    root = tmp_path / "set"
    save(root / "a" / "0.png")
    save(tmp_path / "other" / "1.png")
    save(tmp_path / "outside.png")
    (root / "linked").symlink_to(tmp_path / "other")
    (root / "again").symlink_to(root / "a")
    (root / "a" / "loop").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (tmp_path / "other" / "back").symlink_to(root / "a")
    names = [entry.name for entry in open_files(str(root)).entries]
    assert names == ["a/0.png", "linked/1.png"]


@pytest.mark.parametrize(
    "name", ["a.jfif", "a.JPE", "a.gif", "a.bmp", "a.tga", "a.ppm", "a.jp2", "a.avif"]
)
def test_what_pillow_reads_is_read(tmp_path, name):
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("Pillow is built without AVIF")
    save(tmp_path / name, 200)
    (pixels,) = concepts.pictures(str(tmp_path))
    assert pixels.mean() == pytest.approx(200, abs=2)
    assert len(open_files(str(tmp_path))) == 1


def test_what_other_programs_would_have_to_read_is_not(tmp_path):
    assert decoding.suffixes().isdisjoint((".eps", ".ps", ".pdf", ".wmf", ".emf"))
    file = io.BytesIO()
    Image.new("RGB", (20, 20)).save(file, "EPS")
    with pytest.raises(ValueError, match="no format that is read"):
        decoding.decode(file.getvalue(), "a.png")


def test_heic_is_read_where_pillow_heif_is_installed(monkeypatch):
    called = []

    def register():
        called.append(True)
        monkeypatch.setitem(Image.OPEN, "HEIF", Image.OPEN["PNG"])
        monkeypatch.setitem(Image.EXTENSION, ".heic", "HEIF")

    module = types.SimpleNamespace(register_heif_opener=register)
    monkeypatch.setitem(sys.modules, "pillow_heif", module)
    for each in (decoding._formats, decoding.suffixes):
        each.cache_clear()
    try:
        assert decoding.is_picture("IMG_1.HEIC")
        assert called == [True]
    finally:
        for each in (decoding._formats, decoding.suffixes):
            each.cache_clear()


def test_a_folder_without_a_picture_says_what_it_has(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"x")
    (tmp_path / "b.png").mkdir()
    sentence = r"holds no picture; it has: a\.heic, b\.png/ \(HEIC needs"
    with pytest.raises(ValueError, match=sentence):
        concepts.pictures(str(tmp_path))
    with pytest.raises(ValueError, match=r"it has: a\.heic"):
        open_files(str(tmp_path))
    with pytest.raises(ValueError, match=sentence):
        images.read_images(tmp_path)


def test_a_folder_with_a_picture_s_name_is_called_a_folder(tmp_path):
    (tmp_path / "x.png").mkdir()
    with pytest.raises(ValueError, match=r"x\.png is a folder, not a picture"):
        images.read_image(tmp_path / "x.png")


def test_a_link_without_its_file_is_named(tmp_path, capsys):
    save(tmp_path / "0.png")
    (tmp_path / "1.png").symlink_to("gone.png")
    assert len(concepts.pictures(str(tmp_path))) == 1
    assert "not read: 1.png" in said(capsys)[0]


def test_what_a_listing_names_below_is_not_called_left(tmp_path, capsys):
    save(tmp_path / "below" / "0.png")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "below/0.png"}')
    assert len(read_captioned(tmp_path, caption="a dog")) == 1
    assert said(capsys) == []


def test_a_tilde_is_the_home_directory(tmp_path):
    save(tmp_path / "home" / "set" / "0.png")
    (tmp_path / "home" / "set" / "0.txt").write_text("a dog")
    assert len(concepts.pictures("~/set")) == 1
    assert len(concepts.own_pictures("~/set")) == 1
    assert len(open_files("~/set")) == 1
    assert images.read_image("~/set/0.png").shape == (20, 20, 3)
    assert "set" in read_subjects("folders:~")


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("a/b.png", False),
        ("../b.png", False),
        ("./b.png", False),
        ("a/.b/c.png", True),
        ("__MACOSX/b.png", True),
        ("a\\__MACOSX\\b.png", True),
        ("a/Thumbs.db", True),
        ("a/my__MACOSX/b.png", False),
    ],
)
def test_hidden_names(name, hidden):
    assert is_hidden(name) == hidden


def test_a_set_whose_pictures_are_replaced_has_another_digest(tmp_path):
    def write(value):
        pixels = np.full((20, 20, 3), value, np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "BMP")  # always of one size
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / "0.bmp").write_bytes(file.getvalue())
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
            packed.writestr("0.bmp", file.getvalue())
        with tarfile.open(tmp_path / "a.tar", "w") as tar:
            info = tarfile.TarInfo("0.bmp")
            info.size = len(file.getvalue())
            tar.addfile(info, io.BytesIO(file.getvalue()))
        return (
            open_files(str(tmp_path / "set")).digest(),
            open_files(str(tmp_path / "a.zip")).digest(),
            open_tars(str(tmp_path / "a.tar")).digest(),
        )

    first, again, other = write(3), write(3), write(4)
    assert first == again
    for before, after in zip(first, other, strict=True):
        assert before != after


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [("{9..0}", "counts down"), ("{0..99999999999}", "There is no tar")],
)
def test_ranges_of_tars_that_name_none_are_one_line(tmp_path, numbers, sentence):
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        open_tars(f"{tmp_path}/{numbers}.tar")

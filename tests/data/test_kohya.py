"""Kohya's folders: their repeats and words, and what is none."""

import pathlib

import pytest
from PIL import Image

from personax.data.concepts import own_pictures, pictures
from personax.data.kohya import subsets

pytestmark = pytest.mark.quick


def picture(folder, name="a.png"):
    folder.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(folder / name)
    return folder


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("10_sks dog", (10, "sks dog")),
        ("1_sks", (1, "sks")),
        ("3_sks_dog", (3, "sks_dog")),  # kohya splits at the first underscore
        ("sks dog", None),
        ("10", None),
        ("0_sks dog", None),
        ("x10_sks dog", None),
        ("10_ ", None),
    ],
)
def test_a_folder_s_name_has_repeats_and_words(tmp_path, name, expected, monkeypatch):
    folder = picture(tmp_path / name)
    assert [each[1:] for each in subsets(folder)] == ([expected] if expected else [])
    monkeypatch.chdir(folder)
    assert len(subsets(pathlib.Path())) == (expected is not None)


def test_a_folder_of_such_folders_has_them_all(tmp_path):
    two, one = picture(tmp_path / "20_sks dog"), picture(tmp_path / "5_abc cat")
    picture(tmp_path / "other")
    assert subsets(tmp_path) == [(two, 20, "sks dog"), (one, 5, "abc cat")]
    picture(tmp_path)  # pictures of its own: a folder like any other
    assert subsets(tmp_path) == []


def test_repeats_are_relative_and_words_are_the_default_caption(tmp_path):
    folder = picture(tmp_path / "20_sks dog")
    picture(folder, "b.png")
    (folder / "b.caption").write_text("sks dog asleep")
    picture(tmp_path / "50_sks dog")
    found = [(each.path.name, *each[1:]) for each in own_pictures(str(tmp_path))]
    assert found == [
        ("a.png", "sks dog", 2),
        ("b.png", "sks dog asleep", 2),
        ("a.png", "sks dog", 5),
    ]
    assert [each.repeats for each in own_pictures(str(folder))] == [1, 1]


def test_pictures_without_their_captions_are_those_of_one_folder(tmp_path):
    assert len(pictures(str(picture(tmp_path / "20_sks dog")))) == 1
    with pytest.raises(
        ValueError, match=r"kohya's folders \(20_sks dog\).*captions own"
    ):
        pictures(str(tmp_path))


def test_what_has_no_captions_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.png has no caption"):
        own_pictures(str(picture(tmp_path / "sks dog")))
    with pytest.raises(ValueError, match="bundled subject 'dog' has no captions"):
        own_pictures("dog")
    with pytest.raises(ValueError, match="no folder or list of pictures dgo"):
        own_pictures("dgo")

"""Few-shot sets: where pictures come from and who sees which."""

import numpy as np
import pytest
from PIL import Image

from personax.data import concepts

pytestmark = pytest.mark.quick


def test_a_bundled_subject_is_found_by_its_name():
    found = concepts.pictures("dog")
    assert [pixels.shape for pixels in found] == [(32, 32, 3)] * 5
    assert all(pixels.dtype == np.uint8 for pixels in found)


def test_a_folder_is_read_by_name_as_large_as_it_is(tmp_path):
    Image.new("RGB", (90, 60), (0, 255, 0)).save(tmp_path / "b.png")
    Image.new("RGB", (40, 50), (255, 0, 0)).save(tmp_path / "a.png")
    first, second = concepts.pictures(str(tmp_path))
    assert first.shape == (50, 40, 3)
    assert second.shape == (60, 90, 3)
    assert (first == [255, 0, 0]).all()


def test_a_folder_comes_before_a_subject_of_the_same_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dog").mkdir()
    Image.new("RGB", (20, 20)).save(tmp_path / "dog" / "mine.png")
    assert len(concepts.pictures("dog")) == 1


def test_a_typo_names_the_subjects_that_exist():
    with pytest.raises(ValueError, match="dog, cat, fox"):
        concepts.pictures("dgo")


def paint(folder, name, colour, size=(40, 30)):
    folder.mkdir(exist_ok=True)
    Image.new("RGB", size, colour).save(folder / f"{name}.png")


def test_masks_are_found_by_their_pictures_names_and_their_brightest_is_one(tmp_path):
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    for name in "ab":
        paint(pictures, name, "red")
        paint(masks, name, (100, 100, 100))
    first, second = concepts.masks(str(masks), str(pictures))
    assert first.shape == second.shape == (30, 40)
    assert (first == 255).all()


def test_masks_that_do_not_fit_are_refused(tmp_path):
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    paint(pictures, "a", "red")
    paint(masks, "b", "white")
    with pytest.raises(ValueError, match="There is no mask a; the folder has: b"):
        concepts.masks(str(masks), str(pictures))
    paint(masks, "a", "white", (30, 30))
    with pytest.raises(ValueError, match="30x30 pixels, its picture 40x30"):
        concepts.masks(str(masks), str(pictures))
    paint(masks, "a", "black")
    with pytest.raises(ValueError, match="black"):
        concepts.masks(str(masks), str(pictures))
    with pytest.raises(ValueError, match="'dog' is none"):
        concepts.masks(str(masks), "dog")

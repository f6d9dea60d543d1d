"""Random masks of training pictures: their distribution, and their places in rows."""

import itertools

import numpy as np
import pytest

from personax.data.dataset import Dataset
from personax.data.masked import Masked, random_mask

HEIGHT, WIDTH, FACTOR = 16, 24, 8


class Pictures(Dataset):
    """One picture given with the rows, and one that all steps share."""

    rows_per_step = 2
    items = (lambda: np.full((HEIGHT, WIDTH, 3), 0.5, np.float32),)
    captions = ("a dog",)

    def step(self, step):
        pixels = np.full((1, HEIGHT, WIDTH, 3), 255, np.uint8)
        return {"caption": ["a dog"] * 2, "pixels": pixels, "item": np.array([0])}


def test_masks_are_distributed_as_diffusers_draws_them():
    """The share of whole masks within 0.03, the mean area of others within 5 %."""
    rng, (height, width), count = np.random.default_rng(0), (64, 96), 4000
    masks = np.stack([random_mask(rng, height, width) for _ in range(count)])
    areas = masks.mean(axis=(1, 2))
    assert np.mean(areas == 1) == pytest.approx(0.25, abs=0.03)
    assert areas.min() > 0
    # Sides are uniform and independent; half of the shapes are ellipses.
    rectangle = (height + 1) * (width + 1) / (4 * height * width)
    expected = rectangle * (1 + np.pi / 4) / 2
    assert areas[areas < 1].mean() == pytest.approx(expected, rel=0.05)
    # They fill their bounding box as a rectangle or as an ellipse does.
    filled = []
    for mask in masks[areas < 1]:
        sides = [np.ptp(places) + 1 for places in np.nonzero(mask)]
        if min(sides) > 20:
            filled.append(mask.sum() / np.prod(sides))
    filled = np.array(filled)
    rectangles = filled == 1
    assert rectangles.mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(filled[~rectangles], np.pi / 4, atol=0.03)


def test_rows_have_their_pictures_without_the_masked_part():
    dataset = Masked(Pictures(), FACTOR, seed=3)
    rows = [dataset.step(step) for step in range(20)]
    assert rows[0]["masked"].shape == (2, HEIGHT, WIDTH, 3)
    assert rows[0]["repaint"].shape == (2, HEIGHT // FACTOR, WIDTH // FACTOR)
    values = [np.unique(row["masked"][i]) for row in rows for i in (0, 1)]
    assert {float(x) for each in values[::2] for x in each} == {0.0, 1.0}
    assert {float(x) for each in values[1::2] for x in each} == {0.0, 0.5}
    for row in rows:
        hidden = (row["masked"] == 0).all(axis=-1)
        np.testing.assert_array_equal(
            row["repaint"], hidden[:, ::FACTOR, ::FACTOR].astype(np.float32)
        )
        assert row["pixels"].dtype == np.uint8  # what was there is as it was
        assert row["caption"] == ["a dog"] * 2


def test_masks_depend_on_the_seed_the_step_and_the_row():
    def masks(seed, step):
        return Masked(Pictures(), FACTOR, seed).step(step)["masked"] == 0

    np.testing.assert_array_equal(masks(0, 0), masks(0, 0))
    several = [masks(0, step) for step in range(8)]
    assert any((a != b).any() for a, b in itertools.pairwise(several))
    assert any((each[0] != each[1]).any() for each in several)
    assert any((masks(1, i) != several[i]).any() for i in range(8))


def test_the_rest_of_the_dataset_shows_through():
    dataset = Masked(Pictures(), FACTOR, 0)
    assert (dataset.rows_per_step, dataset.captions) == (2, ("a dog",))
    assert len(dataset.items) == 1

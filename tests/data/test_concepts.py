"""Few-shot sets: where pictures come from and who sees which."""

import itertools

import numpy as np
import pytest
from PIL import Image

from personax.data import concepts

pytestmark = pytest.mark.quick


def test_a_bundled_subject_is_found_by_its_name():
    assert concepts.pictures("dog", (32, 32)).shape == (5, 32, 32, 3)


def test_a_folder_is_read_cropped_and_scaled(tmp_path):
    Image.new("RGB", (90, 60), (255, 0, 0)).save(tmp_path / "a.jpg", quality=95)
    pictures = concepts.pictures(str(tmp_path), (32, 16))
    assert pictures.shape == (1, 32, 16, 3)
    np.testing.assert_allclose(pictures[..., 0], 1, atol=0.05)
    np.testing.assert_allclose(pictures[..., 1:], -1, atol=0.05)


def test_a_typo_names_the_subjects_that_exist():
    with pytest.raises(ValueError, match="dog, cat, fox"):
        concepts.pictures("dgo", (32, 32))


def test_every_epoch_sees_every_picture_once():
    slots = np.concatenate(list(itertools.islice(concepts.visits(5, 3, 0), 10)))
    for epoch in slots.reshape(-1, 5):
        assert sorted(epoch) == list(range(5))
    assert len({tuple(epoch) for epoch in slots.reshape(-1, 5)}) > 1


def test_a_resumed_run_sees_what_it_would_have_seen():
    whole = list(itertools.islice(concepts.visits(5, 8, 3), 7))
    tail = list(itertools.islice(concepts.visits(5, 8, 3, start=4), 3))
    np.testing.assert_array_equal(whole[4:], tail)

"""Cosines with texts and references against scipy's; the words that are compared."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from personax.metrics.alignment import (
    clip_score,
    mean_over_targets,
    reference_cosines,
    text_cosines,
)


def features(n: int, seed: int, d: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d))


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return 1 - cdist(one, other, "cosine")


def test_each_picture_is_compared_with_its_own_text():
    images, texts = features(7, 1), features(7, 2)
    expected = np.diagonal(cosines(images, texts))
    np.testing.assert_allclose(text_cosines(images, texts), expected, atol=1e-12)
    with pytest.raises(ValueError, match="its own text: 7 pictures, 6 texts"):
        text_cosines(images, texts[:6])
    with pytest.raises(ValueError, match="its own text: 7 pictures, 1 texts"):
        text_cosines(images, texts[:1])


def test_lengths_of_features_do_not_matter_and_half_precision_is_read_exactly():
    images, texts = features(5, 3), features(5, 4)
    plain = text_cosines(images, texts)
    np.testing.assert_allclose(text_cosines(3 * images, texts), plain, atol=1e-12)
    half = images.astype(np.float16)
    expected = text_cosines(half.astype(np.float64), texts)
    np.testing.assert_array_equal(text_cosines(half, texts), expected)


def test_clip_score_is_the_cosine_times_its_weight_and_never_negative():
    turns = np.deg2rad([0, 60, 90, 120, 180])
    images = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    texts = np.tile([1.0, 0.0], (5, 1))
    expected = [2.5, 1.25, 0, 0, 0]
    np.testing.assert_allclose(clip_score(images, texts), expected, atol=1e-12)


def test_references_count_in_all_pairs():
    images, references = features(6, 5), features(4, 6)
    expected = cosines(images, references)
    found = reference_cosines(images, references)
    np.testing.assert_allclose(found, expected.mean(axis=1), atol=1e-12)
    assert found.mean() == pytest.approx(expected.mean())


def test_a_picture_beside_itself_has_cosine_one():
    one = features(3, 7)
    np.testing.assert_allclose(text_cosines(one, one), 1, atol=1e-12)
    assert reference_cosines(one[:1], one[:1]) == pytest.approx(1)


def test_targets_count_the_same_however_many_references_they_have():
    images, cat, dog = features(6, 8), features(2, 9), features(5, 10)
    expected = cosines(images, cat).mean(axis=1) + cosines(images, dog).mean(axis=1)
    found = mean_over_targets(images, [cat, dog])
    np.testing.assert_allclose(found, expected / 2, atol=1e-12)
    with pytest.raises(ValueError, match="requires at least one target"):
        mean_over_targets(images, [])


def test_a_feature_of_zeros_has_no_direction():
    texts = features(4, 11)
    texts[2] = 0
    with pytest.raises(ValueError, match=r"1 of 4 texts are 0.* number 2"):
        text_cosines(features(4, 12), texts)

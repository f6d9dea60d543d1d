"""The Fréchet distance against closed forms, scipy and another way to compute it."""

import numpy as np
import pytest
import scipy.linalg

from personax.metrics.frechet import frechet

RNG = np.random.default_rng(0)


def correlated(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def test_it_equals_scipys_matrix_square_root():
    one, other = correlated(200, 24, 1), correlated(300, 24, 2)
    a, b = np.cov(one.T), np.cov(other.T)
    root = scipy.linalg.sqrtm(a @ b).real
    shift = one.mean(0) - other.mean(0)
    expected = np.square(shift).sum() + np.trace(a + b - 2 * root)
    assert frechet(one, other) == pytest.approx(expected, rel=1e-6)


def whitened(n: int, d: int, seed: int) -> np.ndarray:
    """Rows with mean 0 and covariance 1, up to rounding."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x -= x.mean(0)
    return x @ np.linalg.inv(np.linalg.cholesky(np.cov(x.T))).T


def test_commuting_covariances_have_a_closed_form():
    axes = scipy.linalg.qr(RNG.normal(size=(6, 6)))[0]
    one, other = RNG.uniform(0.1, 4, 6), RNG.uniform(0.1, 4, 6)
    a = whitened(50, 6, 10) * np.sqrt(one) @ axes.T
    b = whitened(60, 6, 11) * np.sqrt(other) @ axes.T + 1
    expected = 6 + np.square(np.sqrt(one) - np.sqrt(other)).sum()
    assert frechet(a, b) == pytest.approx(expected)


def test_fewer_pictures_than_features_equal_the_nuclear_norm():
    """Singular covariances: tr (S1 S2)^1/2 is the nuclear norm of A1 A2^T."""
    one, other = correlated(10, 32, 3), correlated(12, 32, 4)
    a1 = (one - one.mean(0)) / np.sqrt(9)
    a2 = (other - other.mean(0)) / np.sqrt(11)
    cross = np.linalg.norm(a1 @ a2.T, "nuc")
    expected = np.square(one.mean(0) - other.mean(0)).sum()
    expected += np.square(a1).sum() + np.square(a2).sum() - 2 * cross
    assert frechet(one, other) == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself():
    one = correlated(100, 16, 5)
    assert frechet(one, one) < 1e-9 * np.trace(np.cov(one.T))


def test_float32_features_are_summed_up_in_float64():
    one = (1e4 + correlated(100, 8, 6)).astype(np.float32)
    other = (1e4 + correlated(100, 8, 7)).astype(np.float32)
    expected = frechet(one.astype(np.float64), other.astype(np.float64))
    assert frechet(one, other) == expected


def test_what_has_no_distance_is_said_in_one_sentence():
    good = correlated(10, 4, 8)
    bad = good.copy()
    bad[3, 1] = np.nan
    with pytest.raises(ValueError, match="at least 2 pictures of each set, not 1"):
        frechet(good, good[:1])
    with pytest.raises(ValueError, match=r"1 of 10 pictures are not finite.*number 3"):
        frechet(good, bad)
    with pytest.raises(ValueError, match=r"mismatch|broadcast"):
        frechet(good, correlated(10, 5, 9))

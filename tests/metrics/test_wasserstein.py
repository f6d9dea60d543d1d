"""W2 of few samples against scipy's matrix root, frechet and closed forms."""

import numpy as np
import pytest
import scipy.linalg

from personax.metrics.frechet import frechet
from personax.metrics.wasserstein import wasserstein


def correlated(n: int, d: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 300, 12), (60, 90, 48)])
def test_it_equals_scipys_dense_matrix_root(n, m, d):
    one, other = correlated(n, d, 1), correlated(m, d, 2)
    a, b = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    cross = np.trace(scipy.linalg.sqrtm(a @ b).real)
    shift = one.mean(0) - other.mean(0)
    expected = np.sqrt(shift @ shift + np.trace(a) + np.trace(b) - 2 * cross)
    assert wasserstein(one, other) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(10, 10, 64), (7, 12, 64), (90, 40, 8)])
def test_it_is_the_root_of_frechet(n, m, d):
    one, other = correlated(n, d, 3), correlated(m, d, 4)
    expected = np.sqrt(frechet(one, other))
    assert wasserstein(one, other) == pytest.approx(expected, rel=1e-6)
    assert wasserstein(other, one) == pytest.approx(expected, rel=1e-6)


def test_a_set_is_at_no_distance_from_itself():
    """To rounding itself, 1e-12, and not to its root, which the traces would leave."""
    one = correlated(50, 400, 5)
    assert wasserstein(one, one) < 1e-12 * np.linalg.norm(one)
    assert wasserstein(one, one[::-1]) < 1e-12 * np.linalg.norm(one)


def test_a_shifted_set_is_at_the_length_of_the_shift():
    one, shift = correlated(30, 100, 6), np.random.default_rng(7).normal(size=100)
    assert wasserstein(one, one + shift) == pytest.approx(np.linalg.norm(shift))


def test_a_stretched_set_has_a_closed_form():
    """N(0, S) and N(0, s^2 S): |s - 1| tr(S)^1/2."""
    one = correlated(30, 100, 8)
    one -= one.mean(0)
    spread = np.sqrt(np.square(one).sum() / 29)
    assert wasserstein(one, 1.5 * one) == pytest.approx(0.5 * spread)


def test_samples_keep_their_shape_and_two_shapes_are_refused():
    latents = correlated(6, 4 * 4 * 3, 9).reshape(6, 4, 4, 3)
    others = correlated(6, 4 * 4 * 3, 10).reshape(6, 4, 4, 3)
    flat = wasserstein(latents.reshape(6, -1), others.reshape(6, -1))
    assert wasserstein(latents, others) == flat
    with pytest.raises(ValueError, match=r"mismatch|broadcast"):
        wasserstein(latents, others[:, :3])


def test_few_samples_of_one_distribution_look_far_apart():
    """The bias that its docstring warns of: it falls with the number of samples."""
    rng = np.random.default_rng(11)
    few = wasserstein(rng.normal(size=(10, 20)), rng.normal(size=(10, 20)))
    many = wasserstein(rng.normal(size=(1000, 20)), rng.normal(size=(1000, 20)))
    assert few > 4 > 8 * many

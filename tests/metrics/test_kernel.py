"""KID against sums written out, scikit-learn's kernel, clean-fid and closed forms."""

import importlib
import sys
import types

import numpy as np
import pytest

from personax.metrics.kernel import kid


def normal(n: int, d: int, seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, size=(n, d))


def mmd(one, other, kernel) -> float:
    """Unbiased MMD^2, pair by pair."""
    total = 0.0
    for x in (one, other):
        n = len(x)
        pairs = [(i, j) for i in range(n) for j in range(n) if i != j]
        total += sum(kernel(x[i], x[j]) for i, j in pairs) / (n * (n - 1))
    cross = [kernel(a, b) for a in one for b in other]
    return total - 2 * sum(cross) / len(cross)


def test_it_equals_the_sum_over_pairs_written_out():
    one, other = normal(9, 5, 1), normal(9, 5, 2, 0.5)
    expected = mmd(one, other, lambda x, y: (sum(x * y) / 5 + 1) ** 3)
    assert kid(one, other).value == pytest.approx(expected, rel=1e-12)


def test_the_kernel_is_scikit_learns_polynomial_one():
    from sklearn.metrics import pairwise

    one, other = normal(9, 5, 3), normal(9, 5, 4, 0.5)
    expected = mmd(
        one, other, lambda x, y: pairwise.polynomial_kernel(x[None], y[None])[0, 0]
    )
    assert kid(one, other).value == pytest.approx(expected, rel=1e-12)


@pytest.fixture
def clean_fid(monkeypatch):
    """clean-fid's own; those of its files that ask for torchvision stand empty."""
    features = types.ModuleType("cleanfid.features")
    features.build_feature_extractor = features.get_reference_statistics = None
    utils = types.ModuleType("cleanfid.utils")
    for module in (features, utils):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    yield importlib.import_module("cleanfid.fid").kernel_distance
    sys.modules.pop("cleanfid.fid")


def test_clean_fid_finds_the_same_distance(clean_fid):
    """Exactly where subsets are whole sets; else up to what chance draws, 2 %."""
    one, other = normal(40, 64, 5), normal(40, 64, 6, 0.3)
    assert kid(one, other).value == pytest.approx(clean_fid(one, other), rel=1e-12)
    np.random.seed(0)
    expected = clean_fid(one, other[:30], num_subsets=1000, max_subset_size=20)
    found = kid(one, other[:30], subsets=1000, size=20)
    assert found.value == pytest.approx(expected, rel=0.02)


def test_subsets_of_one_picture_each_have_a_closed_form():
    """Sets of one repeated point: k(a, a) + k(b, b) - 2 k(a, b), whatever is drawn."""
    a, b = np.arange(6.0), np.ones(6)
    one, other = np.tile(a, (30, 1)), np.tile(b, (7, 1))
    expected = (a @ a / 6 + 1) ** 3 + 2**3 - 2 * (a @ b / 6 + 1) ** 3
    found = kid(one, other, subsets=3, size=5)
    assert found.value == pytest.approx(expected)
    assert found.error == pytest.approx(0, abs=1e-9)


def moments(mean: float) -> np.ndarray:
    """E x, E x^2, E x^3 of a Gaussian of variance 1."""
    return np.array([mean, mean**2 + 1, mean**3 + 3 * mean])


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_its_mean_over_many_sets_is_the_distance_of_the_distributions(shift):
    """With d = 1, (xy + 1)^3 compares three moments, with weights 3, 3 and 1."""
    expected = np.array([3, 3, 1]) @ np.square(moments(shift) - moments(0))
    found = [
        kid(normal(20, 1, 2 * i), normal(20, 1, 2 * i + 1, shift)).value
        for i in range(800)
    ]
    error = np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected) < 4 * error
    assert error < 0.15 * max(expected, 3)


def test_its_error_is_its_deviation_over_many_sets():
    found = [kid(normal(60, 4, 2 * i), normal(60, 4, 2 * i + 1, 1)) for i in range(300)]
    deviation = np.std([each.value for each in found])
    assert np.mean([each.error for each in found]) == pytest.approx(deviation, rel=0.15)


def test_a_set_beside_itself_is_below_zero_and_a_shifted_one_above():
    one = normal(50, 8, 7)
    assert kid(one, one).value < 0
    assert kid(one, one + 1).value > 4 * kid(one, one + 1).error


def test_subsets_are_drawn_by_the_seed_and_average():
    one, other = normal(80, 4, 8), normal(50, 4, 9, 0.5)
    assert kid(one, other, subsets=5) == kid(one, other, subsets=5)
    assert kid(one, other, subsets=5) != kid(one, other, subsets=5, seed=1)
    whole = mmd(one, other, lambda x, y: (x @ y / 4 + 1) ** 3)
    many = kid(one, other, subsets=300, size=20)
    assert many.value == pytest.approx(whole, rel=0.1)
    assert many.error > 1.3 * kid(one, other, subsets=5).error


def test_no_subset_is_refused():
    one = normal(5, 4, 10)
    with pytest.raises(ValueError, match="at least 3 pictures, not 0 of 1000"):
        kid(one, one, subsets=0)
    with pytest.raises(ValueError, match="at least 3 pictures, not 100 of 2"):
        kid(one, one, size=2)

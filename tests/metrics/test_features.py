"""Inputs that every metric over features rejects."""

import numpy as np
import pytest

from personax.metrics.alignment import reference_cosines, text_cosines
from personax.metrics.frechet import frechet
from personax.metrics.kernel import kid
from personax.metrics.wasserstein import wasserstein

PAIRS = (text_cosines, reference_cosines, frechet, kid, wasserstein)
SETS = (frechet, kid, wasserstein)
GOOD = np.random.default_rng(0).normal(size=(6, 4))


@pytest.mark.parametrize("metric", PAIRS)
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_a_number_that_is_not_finite_is_named_by_its_row(metric, number):
    bad = GOOD.copy()
    bad[3, 1] = number
    with pytest.raises(ValueError, match=r"1 of 6 \w+ are not finite.* number 3"):
        metric(GOOD, bad)
    with pytest.raises(ValueError, match="1 of 6 pictures are not finite"):
        metric(bad, GOOD)


@pytest.mark.parametrize("metric", PAIRS)
def test_features_of_two_widths_are_refused(metric):
    with pytest.raises(ValueError, match=r"mismatch|broadcast"):
        metric(GOOD, GOOD[:, :3])


@pytest.mark.parametrize("metric", PAIRS)
def test_nothing_is_refused(metric):
    with pytest.raises(ValueError, match=r"requires .*pictures.*, not 0"):
        metric(GOOD[:0], GOOD)
    with pytest.raises(ValueError, match="at least one value each"):
        metric(GOOD[:, :0], GOOD[:, :0])


@pytest.mark.parametrize("metric", SETS)
def test_a_single_picture_is_no_set(metric):
    with pytest.raises(ValueError, match=r"at least [23] pictures of each set, not 1"):
        metric(GOOD, GOOD[:1])

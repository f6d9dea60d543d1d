"""The kernel distance between two sets of features (KID, Bińkowski et al. 2018)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, check_widths, checked

Matrix = Float[np.ndarray, "_ _"]


class Kid(NamedTuple):
    """The estimate as it is, where papers print 1000 times as much, and its error.

    The error is the jackknife's standard error at the size of the subsets. It is not
    the standard deviation over subsets, which is 0 where each is the whole set.
    """

    value: float
    error: float


def kid(
    one: Features,
    other: Features,
    *,
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> Kid:
    """The mean of the unbiased MMD^2 over subsets, with k(x, y) = (x.y / d + 1)^3.

    As clean-fid has it: each subset draws min(n1, n2, `size`) rows of each set without
    repetition; sets of that very size are computed once, for all subsets are the same.
    Unbiased, it is 0 on average for pictures of one distribution, and so often below 0;
    there the jackknife, which is made for sets that differ, says too much. Raises
    ValueError for fewer than 3 rows of a set or a subset (one is left out at a time),
    no subset, two widths, and numbers that are not finite.
    """
    x = checked(one, "A kernel distance", least=3)
    y = checked(other, "A kernel distance", least=3)
    check_widths(x.shape[1], y.shape[1])
    if subsets < 1 or size < 3:
        raise ValueError(
            f"A kernel distance needs at least 1 subset of at least 3 pictures, not "
            f"{subsets} of {size}."
        )
    m = min(len(x), len(y), size)
    if len(x) == len(y) == m:
        subsets = 1
    rng, found = np.random.default_rng(seed), []
    for _ in range(subsets):
        a = x[rng.choice(len(x), m, replace=False)]
        b = y[rng.choice(len(y), m, replace=False)]
        found.append(_estimate(_kernel(a, a), _kernel(b, b), _kernel(a, b)))
    values, variances = np.transpose(found)
    return Kid(float(values.mean()), float(np.sqrt(variances.mean())))


def _kernel(x: Matrix, y: Matrix) -> Matrix:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _estimate(xx: Matrix, yy: Matrix, xy: Matrix) -> tuple[float, float]:
    """(the unbiased MMD^2, Gretton et al. 2012, eq. 3; its jackknifed variance)."""
    m = len(xx)
    of_x, of_y = (k.sum(axis=1) - np.diagonal(k) for k in (xx, yy))
    between = xy.sum() / m**2
    within_x, within_y = (each.sum() / (m * (m - 1)) for each in (of_x, of_y))
    value = within_x + within_y - 2 * between
    variance = 0.0
    for rows, cross in ((of_x, xy.sum(axis=1)), (of_y, xy.sum(axis=0))):
        # What the estimate would be without row i, but for what i does not touch.
        within = (rows.sum() - 2 * rows) / ((m - 1) * (m - 2))
        without = within - 2 * (cross.sum() - cross) / (m * (m - 1))
        variance += (m - 1) * np.var(without)
    return value, variance

"""The kernel distance between two sets of features (KID, Bińkowski et al. 2018)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, checked

Matrix = Float[np.ndarray, "_ _"]


class Kid(NamedTuple):
    """The estimate, which papers often multiply by 1000, and its standard error.

    The error is the jackknife's at the size of the subsets, not the standard deviation
    over subsets, which is 0 if each is the whole set.
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

    As in clean-fid, each subset has min(n1, n2, `size`) rows of each set, without
    replacement; if both sets have that size, there is one subset. The estimate is 0 on
    average, and so often negative, for sets of one distribution; the jackknife, which
    assumes that they differ, then overestimates the error.

    Raises ValueError for sets or subsets of fewer than 3 rows, without subsets, for two
    widths, and for values that are not finite.
    """
    x = checked(one, "A kernel distance", least=3)
    y = checked(other, "A kernel distance", least=3)
    if subsets < 1 or size < 3:
        raise ValueError(
            f"A kernel distance requires at least 1 subset of at least 3 pictures, not "
            f"{subsets} of {size}."
        )
    m = min(len(x), len(y), size)
    if len(x) == len(y) == m:
        subsets = 1
    rng, estimates = np.random.default_rng(seed), []
    for _ in range(subsets):
        a = x[rng.choice(len(x), m, replace=False)]
        b = y[rng.choice(len(y), m, replace=False)]
        estimates.append(_estimate(_kernel(a, a), _kernel(b, b), _kernel(a, b)))
    values, variances = np.transpose(estimates)
    return Kid(float(values.mean()), float(np.sqrt(variances.mean())))


def _kernel(x: Matrix, y: Matrix) -> Matrix:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _estimate(xx: Matrix, yy: Matrix, xy: Matrix) -> tuple[float, float]:
    """(unbiased MMD^2, Gretton et al. 2012, eq. 3; its jackknife variance)."""
    m = len(xx)
    of_x, of_y = (k.sum(axis=1) - np.diagonal(k) for k in (xx, yy))
    between = xy.sum() / m**2
    within_x, within_y = (each.sum() / (m * (m - 1)) for each in (of_x, of_y))
    value = within_x + within_y - 2 * between
    variance = 0.0
    for rows, cross in ((of_x, xy.sum(axis=1)), (of_y, xy.sum(axis=0))):
        # The estimate without row i, up to terms that do not depend on i.
        within = (rows.sum() - 2 * rows) / ((m - 1) * (m - 2))
        without = within - 2 * (cross.sum() - cross) / (m * (m - 1))
        variance += (m - 1) * np.var(without)
    return float(value), float(variance)

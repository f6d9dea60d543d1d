"""Bootstrap standard errors."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from personax.metrics.features import UndefinedError, checked

Statistic = Callable[[Float[np.ndarray, "_ ..."]], float]


def standard_error(
    values: Shaped[np.ndarray, "_ ..."],
    statistic: Statistic = np.mean,
    *,
    seed: int = 0,
    rounds: int = 200,
    groups: Sequence[Hashable] | None = None,
) -> float:
    """The standard deviation of `statistic` over resampled rows, in its own units.

    Efron and Tibshirani 1993, algorithm 6.1: each round draws as many rows as there
    are, with replacement. Pictures of one prompt are correlated, so that resampling
    single rows underestimates the error; `groups`, such as the prompt of each row, are
    resampled as a whole. The error of a mean approaches
    sqrt(mean((x - mean)^2) / n) with the number of rounds.

    Not for estimates over pairs of rows such as KID, which would treat a repeated row
    as a very close pair; see `kernel.kid` for its error.

    Raises ValueError for fewer than two rows or groups, unless there is one group per
    row, and for values or statistics that are not finite.
    """
    x = checked(values, "A standard error", rows="rows")
    what = "rows" if groups is None else "groups"
    groups = range(len(x)) if groups is None else groups
    members: dict[Hashable, list[int]] = {}
    for row, group in zip(range(len(x)), groups, strict=True):
        members.setdefault(group, []).append(row)
    rows = list(members.values())
    if len(rows) < 2:
        raise UndefinedError(
            f"A standard error requires at least 2 {what}, not {len(rows)}."
        )
    rng, statistics = np.random.default_rng(seed), []
    for _ in range(rounds):
        drawn = rng.integers(len(rows), size=len(rows))
        statistics.append(statistic(x[np.concatenate([rows[i] for i in drawn])]))
    if not np.isfinite(statistics).all():
        raise UndefinedError("The statistic of resampled rows is not finite.")
    return float(np.std(statistics, ddof=1))

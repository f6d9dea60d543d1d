"""How far a metric would move with other pictures: the bootstrap's standard error."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float, Shaped

from personax.metrics.features import checked

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

    Efron and Tibshirani 1993, algorithm 6.1: each of the rounds draws as many rows as
    there are, with repetition. Pictures of one prompt resemble each other, and an error
    over single rows is then too small: with `groups`, the prompt of each row, whole
    groups are drawn. Of the mean it is sqrt(mean((x - mean)^2) / n), up to the rounds.

    It is not for an estimate over pairs of rows such as KID, which takes a repeated row
    for a very near pair; `kernel.kid` has an error of its own. Raises ValueError for
    fewer than two rows or groups or rounds, groups that are not one for each row, and
    numbers that are not finite, the statistic's included.
    """
    x = checked(values, "A standard error", rows="rows")
    rows = _rows_of_groups(len(x), groups)
    if len(rows) < 2:
        what = "rows" if groups is None else "groups"
        raise ValueError(f"A standard error needs at least 2 {what}, not {len(rows)}.")
    if rounds < 2:
        raise ValueError(f"A standard error needs at least 2 rounds, not {rounds}.")
    rng, found = np.random.default_rng(seed), []
    for _ in range(rounds):
        drawn = rng.integers(len(rows), size=len(rows))
        found.append(statistic(x[np.concatenate([rows[i] for i in drawn])]))
    if not np.isfinite(found).all():
        raise ValueError("The statistic of some of the resampled rows is not finite.")
    return float(np.std(found, ddof=1))


def _rows_of_groups(n: int, groups: Sequence[Hashable] | None) -> list[np.ndarray]:
    """The numbers of the rows of each group, in the groups' first order."""
    if groups is None:
        return list(np.arange(n)[:, None])
    if len(groups) != n:
        raise ValueError(f"{len(groups)} groups are named for {n} rows.")
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    return [np.array(each) for each in members.values()]

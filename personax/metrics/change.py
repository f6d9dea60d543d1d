"""Rate of change of weights by kind of layer."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from personax.core.tree import flat, nearest
from personax.core.typing import Params

# Custom Diffusion's three kinds of layers; the third is everything else.
GROUPS = {
    "cross-attention": r"(.*/)?attn2/.*",
    "self-attention": r"(.*/)?attn1/.*",
}
REST = "rest"


class Change(NamedTuple):
    """The mean rate of change of a group, NaN without any rate."""

    mean: float
    count: int  # rates in the mean
    zeros: int  # tensors or layers without a rate, since they were all 0


def rate_of_change(
    before: Params, after: Params, *, per: str = "tensor"
) -> dict[str, float]:
    """{path: |after - before| / |before|} in Frobenius norms.

    Kumari et al. 2023, sec. 3.1 (after Li et al. 2020). `per="tensor"` has a rate per
    parameter tensor; "layer", as in the paper, one per layer, over all of its tensors.
    The rate of weights that were all 0 is NaN.

    Raises ValueError for another `per`, and for a parameter that only one tree has,
    that has two shapes, or that is not finite.
    """
    if per not in ("tensor", "layer"):
        raise ValueError(f"Unknown per={per!r}; expected tensor or layer.")
    one, other = flat(before), flat(after)
    if not one:
        raise ValueError("The rate of change requires parameters.")
    alone = sorted(one.keys() ^ other.keys())
    if alone:
        path = alone[0]
        has, lacks = ("before", other) if path in one else ("after", one)
        raise ValueError(
            f"{path} exists only {has} training; nearest: {nearest(path, lacks)}."
        )
    squares: dict[str, np.ndarray] = {}
    for path, x in one.items():
        name = path if per == "tensor" else path.rpartition("/")[0] or path
        squares[name] = squares.get(name, 0) + _squares(path, x, other[path])
    return {
        path: float(np.sqrt(change / size)) if size else float("nan")
        for path, (change, size) in squares.items()
    }


def by_group(
    rates: Mapping[str, float], groups: Mapping[str, str] = GROUPS
) -> dict[str, Change]:
    """{group: its mean rate} for patterns of whole paths, and "rest".

    Every rate has the same weight, whatever the size of its tensor or layer, and
    belongs to the first group that matches its path. Raises ValueError for a group
    without a match.
    """
    by_name: dict[str, list[float]] = {name: [] for name in (*groups, REST)}
    for path, rate in rates.items():
        kinds = (name for name in groups if re.fullmatch(groups[name], path))
        by_name[next(kinds, REST)].append(rate)
    for name, pattern in groups.items():
        if not by_name[name]:
            raise ValueError(
                f"No path matches the group {name}, {pattern!r}; nearest paths: "
                f"{nearest(pattern, rates)}."
            )
    return {name: _change(np.array(own)) for name, own in by_name.items()}


def _squares(path: str, before, after) -> np.ndarray:
    """[|after - before|^2, |before|^2] in float64."""
    x, y = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if x.shape != y.shape:
        raise ValueError(
            f"{path} has shape {x.shape} before and {y.shape} after training."
        )
    squares = np.array([np.square(y - x).sum(), np.square(x).sum()])
    if not np.isfinite(squares).all():
        raise ValueError(f"{path} has values that are not finite.")
    return squares


def _change(rates: np.ndarray) -> Change:
    known = rates[~np.isnan(rates)]
    mean = float(known.mean()) if len(known) else float("nan")
    return Change(mean, len(known), len(rates) - len(known))

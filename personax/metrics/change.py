"""How much training moved each weight, by kind of layer."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from personax.core.tree import flat, nearest
from personax.core.typing import Params

# By the UNet's names; what matches none is the rest. Custom Diffusion's three kinds.
GROUPS = {
    "cross-attention": r"(.*/)?attn2/.*",
    "self-attention": r"(.*/)?attn1/.*",
}
REST = "rest"


class Change(NamedTuple):
    """The mean rate of a group, NaN where none of it has one."""

    mean: float
    count: int  # of the rates in the mean
    zeros: int  # tensors or layers that were all 0: they have no rate


def rate_of_change(
    before: Params, after: Params, *, per: str = "tensor"
) -> dict[str, float]:
    """{path: |after - before| / |before|} of Frobenius norms, 1 for 100 %.

    Kumari et al. 2023, sec. 3.1 (after Li et al. 2020): `per="tensor"` has a rate for
    each parameter tensor; "layer" one for all tensors of a layer together, under the
    layer's path, as the paper says. What was all 0 has no rate: NaN. Raises ValueError
    for another `per`, and, naming it, for a parameter that only one has, that has two
    shapes, or that holds numbers that are not finite.
    """
    if per not in ("tensor", "layer"):
        raise ValueError(f"There is no per {per!r}; there are: tensor, layer.")
    one, other = flat(before), flat(after)
    if not one:
        raise ValueError("There is no parameter whose change could be measured.")
    alone = sorted(one.keys() ^ other.keys())
    if alone:
        path = alone[0]
        has, lacks = ("before", other) if path in one else ("after", one)
        raise ValueError(
            f"{path} is there only {has} training; nearest: {nearest(path, lacks)}."
        )
    squares: dict[str, np.ndarray] = {}
    for path, x in one.items():
        name = path if per == "tensor" else path.rpartition("/")[0] or path
        squares[name] = squares.get(name, 0) + _squares(path, x, other[path])
    return {
        path: float(np.sqrt(moved / size)) if size else float("nan")
        for path, (moved, size) in squares.items()
    }


def by_group(
    rates: Mapping[str, float], groups: Mapping[str, str] = GROUPS
) -> dict[str, Change]:
    """{group: its mean rate} by patterns of whole paths, and "rest", of which is left.

    Every rate counts the same, however many numbers its tensor or layer has, in the
    first group that its path matches. Raises ValueError for a group that matches none.
    """
    found: dict[str, list[float]] = {name: [] for name in (*groups, REST)}
    for path, rate in rates.items():
        kinds = (name for name in groups if re.fullmatch(groups[name], path))
        found[next(kinds, REST)].append(rate)
    for name, pattern in groups.items():
        if not found[name]:
            raise ValueError(
                f"No rate is of the group {name}, {pattern!r}; nearest paths: "
                f"{nearest(pattern, rates)}."
            )
    return {name: _change(np.array(own)) for name, own in found.items()}


def _squares(path: str, before, after) -> np.ndarray:
    """[|after - before|^2, |before|^2] in float64."""
    x, y = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"{path} has shape {x.shape} before, {y.shape} after.")
    found = np.array([np.square(y - x).sum(), np.square(x).sum()])
    if not np.isfinite(found).all():
        raise ValueError(f"{path} holds numbers that are not finite.")
    return found


def _change(rates: np.ndarray) -> Change:
    whole = rates[~np.isnan(rates)]
    mean = float(whole.mean()) if len(whole) else float("nan")
    return Change(mean, len(whole), len(rates) - len(whole))

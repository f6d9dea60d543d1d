"""Rate of change of weights by kind of layer."""

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from personax.core.tree import flat
from personax.core.typing import Params

# Custom Diffusion's three kinds of layers; the third is everything else.
GROUPS = {
    "cross-attention": r"(.*/)?attn2(/.*)?",
    "self-attention": r"(.*/)?attn1(/.*)?",
    "rest": ".*",
}


class Change(NamedTuple):
    """The mean rate of change of a group, NaN without any rate."""

    mean: float
    count: int  # layers in the mean


def rate_of_change(before: Params, after: Params) -> dict[str, float]:
    """{layer: |after - before| / |before|} in Frobenius norms.

    Kumari et al. 2023, sec. 3.1 (after Li et al. 2020): one rate per layer, over all of
    its tensors. The rate of weights that were all 0 is NaN. Both trees have the same
    paths and shapes. Raises ValueError for values that are not finite.
    """
    other, squares = flat(after), {}
    for path, leaf in flat(before).items():
        x, y = (np.asarray(each, np.float64) for each in (leaf, other[path]))
        sums = np.array([np.square(y - x).sum(), np.square(x).sum()])
        if not np.isfinite(sums).all():
            raise ValueError(f"{path} has values that are not finite.")
        layer = path.rpartition("/")[0] or path
        squares[layer] = squares.get(layer, 0) + sums
    return {
        layer: float(np.sqrt(change / size)) if size else float("nan")
        for layer, (change, size) in squares.items()
    }


def by_group(rates: Mapping[str, float]) -> dict[str, Change]:
    """{group: its mean rate} of GROUPS.

    Every rate has the same weight, whatever the size of its layer, and belongs to the
    first group that matches its path. Layers without a rate are left out.
    """
    known: dict[str, list[float]] = {name: [] for name in GROUPS}
    for path, rate in rates.items():
        name = next(name for name in GROUPS if re.fullmatch(GROUPS[name], path))
        if not np.isnan(rate):
            known[name].append(rate)
    return {
        name: Change(float(np.mean(own)) if own else float("nan"), len(own))
        for name, own in known.items()
    }

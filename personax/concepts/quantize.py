"""Trained numbers in fewer bits: float16, or int8 with a scale for each vector."""

from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPES = ("float16", "int8")
_SCALE = ".scale"  # beside an int8 leaf: what its vectors are to be multiplied by


def quantise(leaves: Mapping[str, Any], dtype: str) -> dict[str, np.ndarray]:
    """{path: leaf} with every leaf in `dtype`, and for int8 {path.scale: scales}.

    int8 is x / s rounded, s the largest |x| of each vector along the last axis over
    127. Raises ValueError for another dtype, and for numbers too large for float16.
    """
    if dtype not in DTYPES:
        raise ValueError(
            f"There is no dtype {dtype!r}; there are: {', '.join(DTYPES)}."
        )
    out = {}
    for path, leaf in leaves.items():
        x = np.asarray(leaf, np.float32)
        if dtype == "float16":
            if x.size and np.abs(x).max() > np.finfo(np.float16).max:
                raise ValueError(f"{path} has numbers too large for float16.")
            out[path] = x.astype(np.float16)
            continue
        scale = (
            np.abs(x).max(axis=-1, keepdims=True) / 127 if x.ndim else np.abs(x) / 127
        )
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        out[path] = np.round(x / scale).astype(np.int8)
        out[path + _SCALE] = scale
    return out


def restore(leaves: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The float32 leaves that quantised ones stand for; others stay as they are.

    Raises ValueError for an int8 leaf whose scales are missing or do not fit.
    """
    out = {}
    for path, leaf in leaves.items():
        if path.endswith(_SCALE):
            continue
        if leaf.dtype == np.int8:
            scale = leaves.get(path + _SCALE)
            wanted = (*leaf.shape[:-1], 1) if leaf.ndim else ()
            if scale is None or scale.shape != wanted:
                raise ValueError(f"{path} is int8 without the scales that fit it.")
            leaf = leaf * scale
        elif leaf.dtype == np.float16:
            leaf = leaf.astype(np.float32)
        out[path] = leaf
    return out


def error(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """The norm of what is lost over that of all that there was."""
    lost = sum(float(np.square(np.asarray(before[p]) - after[p]).sum()) for p in before)
    all_of_it = sum(float(np.square(np.asarray(before[p])).sum()) for p in before)
    return (lost / (all_of_it or 1.0)) ** 0.5

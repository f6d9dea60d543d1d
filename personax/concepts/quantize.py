"""Quantization of theta: float16, or int8 with a scale for each vector."""

from collections.abc import Mapping
from typing import Any

import numpy as np

DTYPES = ("float16", "int8")
_SCALE = ".scale"  # suffix of an int8 leaf's scales


def quantize(leaves: Mapping[str, Any], dtype: str) -> dict[str, np.ndarray]:
    """{path: leaf} with every leaf in `dtype`, and for int8 {path.scale: scales}.

    int8 is round(x / s) with s = max |x| / 127 of each vector along the last axis.
    Raises ValueError for an unknown dtype and for values too large for float16.
    """
    if dtype not in DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}; expected {' or '.join(DTYPES)}.")
    out = {}
    for path, leaf in leaves.items():
        x = np.asarray(leaf, np.float32)
        if dtype == "float16":
            if x.size and np.abs(x).max() > np.finfo(np.float16).max:
                raise ValueError(f"{path} has values too large for float16.")
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
    """Quantized leaves as float32; other leaves are unchanged.

    Raises ValueError for an int8 leaf whose scales are missing or do not fit.
    """
    out = {}
    for path, leaf in leaves.items():
        if path.endswith(_SCALE):
            continue
        if leaf.dtype == np.int8:
            scale = leaves.get(path + _SCALE)
            expected = (*leaf.shape[:-1], 1) if leaf.ndim else ()
            if scale is None or scale.shape != expected:
                raise ValueError(f"{path} is int8 without matching scales.")
            leaf = leaf * scale
        elif leaf.dtype == np.float16:
            leaf = leaf.astype(np.float32)
        out[path] = leaf
    return out


def relative_error(before: Mapping[str, Any], after: Mapping[str, Any]) -> float:
    """The norm of the differences of all leaves relative to their norm."""
    lost = sum(float(np.square(np.asarray(before[p]) - after[p]).sum()) for p in before)
    total = sum(float(np.square(np.asarray(before[p])).sum()) for p in before)
    return (lost / (total or 1.0)) ** 0.5

"""Compress a concept: low-rank kernels, and fewer bits per parameter."""

import pathlib
from typing import Any, NamedTuple

import numpy as np

from personax.concepts import artifact
from personax.concepts.artifact import Artifact
from personax.concepts.low_rank import LowRank, factored, low_rank
from personax.concepts.quantize import quantize, relative_error, restore
from personax.core.tree import count, flat, nest
from personax.core.typing import Params

SHARE = 0.6  # the default share of the singular values' sum


class Compression(NamedTuple):
    """A compressed concept on disk, and what the compression lost."""

    num_params: int
    num_params_before: int
    low_rank: LowRank | None
    rounding: float | None  # relative error of the dtype


def compress(
    folder: pathlib.Path,
    out: pathlib.Path,
    params: Params,
    fingerprint: str,
    *,
    share: float | None = SHARE,
    keep_crossing: bool = True,
    dtype: str | None = None,
) -> Compression:
    """Write the concept in `folder` to `out`, compressed; `params` are the base's.

    With a `share` every kernel that was trained whole is stored in low rank, see
    `low_rank`; with a `dtype` all parameters are then quantized, see `quantize`. Raises
    ValueError for a concept that cannot be compressed; see `artifact.load` for more.
    """
    loaded = artifact.load(folder, params, fingerprint)
    theta, record = dict(loaded.theta), {}
    factors, rounding = None, None
    if share:
        dense, deltas = _split(folder, loaded, params)
        factors = low_rank(deltas, share=share, keep_crossing=keep_crossing)
        theta["weights"] = {**dense, **factored(factors.factors)}
        record |= {
            "share": share,
            "keep_crossing": keep_crossing,
            "error": factors.error,
            "ranks": factors.ranks,
        }
    if dtype:
        leaves = flat(theta)
        quantized = quantize(leaves, dtype)
        theta = nest(quantized)
        rounding = relative_error(leaves, restore(quantized))
        record |= {"dtype": dtype, "rounding": rounding}
    own = {"format", "personax", "concepts", "compression", "before"}
    about = {name: x for name, x in loaded.about.items() if name not in own}
    artifact.save(
        out,
        theta,
        loaded.concepts,
        before=artifact.earlier(folder),
        prepared=loaded.prepared,
        compression=record,
        **about,
    )
    return Compression(count(theta), count(loaded.theta), factors, rounding)


def _split(
    folder: pathlib.Path, loaded: Artifact, params: Params
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(leaves that are kept as they are, the trained change of each matrix).

    All trained matrices are compressed; the released code compresses only keys and
    values.
    """
    leaves, base = flat(loaded.theta.get("weights", {})), flat(params)
    kernels = [path for path in leaves if path.endswith("/kernel")]
    matrices = [path for path in kernels if leaves[path].ndim == 2]
    if not matrices or not leaves.keys() <= base.keys():
        raise ValueError(
            f"{folder} is a concept of {loaded.about['method']} without kernels that "
            f"were trained whole; there is nothing to compress."
        )
    dense = {path: leaf for path, leaf in leaves.items() if path not in matrices}
    deltas = {
        path: np.asarray(leaves[path], np.float64) - np.asarray(base[path], np.float64)
        for path in matrices
    }
    return dense, deltas

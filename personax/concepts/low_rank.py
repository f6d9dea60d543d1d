"""Trained kernels as the leading singular vectors of what training added to them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from personax.core.tree import flat
from personax.core.typing import Params

U, V = "svd_u", "svd_v"  # the leaves that stand for a module's kernel


class Compressed(NamedTuple):
    """Each delta as u v, and what that leaves out.

    `error` is the Frobenius norm of all that is left out, over that of all deltas.
    `kept` is the share of the sum of all singular values.
    """

    factors: dict[str, tuple[Float[np.ndarray, "i r"], Float[np.ndarray, "r o"]]]
    error: float
    kept: float

    @property
    def ranks(self) -> dict[str, int]:
        return {path: u.shape[1] for path, (u, _) in self.factors.items()}


def compress(
    deltas: Mapping[str, Float[np.ndarray, "_ _"]],
    *,
    share: float = 0.6,
    keep_crossing: bool = True,
) -> Compressed:
    """Each delta, a trained kernel minus the base's, as u v of low rank, in float32.

    Kumari et al. 2023, app. C: the leading singular values whose sum reaches `share` of
    the sum of all. The value that crosses it is kept, as the paper's "till the rank
    where the cumulative sum is k %" says, so that no rank is 0; the release leaves it
    out (`keep_crossing=False`). The singular values themselves count, not their
    squares. Raises ValueError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share is {share:g}; it must lie in (0, 1].")
    factors, values, dropped = {}, [], []
    for path, delta in deltas.items():
        u, s, v = np.linalg.svd(np.asarray(delta, np.float64), full_matrices=False)
        r = _rank(s, share, keep_crossing)
        u = np.ascontiguousarray(u[:, :r] * s[None, :r], np.float32)
        factors[path] = u, v[:r].astype(np.float32)
        values.append(s)
        dropped.append(s[r:])
    everything, lost = np.concatenate(values), np.concatenate(dropped)
    # Without any change there is nothing to lose.
    error = np.linalg.norm(lost) / (np.linalg.norm(everything) or 1.0)
    kept = 1 - lost.sum() / (everything.sum() or 1.0)
    return Compressed(factors, float(error), float(kept))


def expand(leaves: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """`leaves` with a kernel W_0 + u v, float32, in place of each svd_u and svd_v.

    `leaves` are {part/path: leaf}, as on disk, and W_0 is that path's kernel in
    `params`. Other leaves stay as they are. Raises ValueError for half a pair, or for
    one that does not fit its kernel.
    """
    pieces = {name: leaf for name, leaf in leaves.items() if _leaf(name) in (U, V)}
    out = {name: leaf for name, leaf in leaves.items() if name not in pieces}
    kernels = flat(params) if pieces else {}
    for module in dict.fromkeys(map(_module, pieces)):
        u, v = (pieces.get(f"{module}/{name}") for name in (U, V))
        W_0 = kernels.get(f"{module.partition('/')[2]}/kernel")
        if W_0 is None or _shape_of(u, v) != W_0.shape:
            raise ValueError(
                f"{module}/{U} and {V} are no pair that fits a kernel of the base."
            )
        delta = np.asarray(u, np.float32) @ np.asarray(v, np.float32)
        out[f"{module}/kernel"] = np.asarray(W_0, np.float32) + delta
    return out


def factored(factors: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """{path: leaf} for {kernel's path: (u, v)}: a part of theta that `expand` reads."""
    return {
        f"{_module(path)}/{name}": factor
        for path, pair in factors.items()
        for name, factor in zip((U, V), pair, strict=True)
    }


def _rank(s: Float[np.ndarray, " r"], share: float, keep_crossing: bool) -> int:
    total = s.cumsum()
    if not total[-1]:  # untouched by training: every component is worth the same
        return int(keep_crossing)
    # Over its own last entry, so that a share of 1 is never crossed by rounding.
    crossing = int(np.searchsorted(total / total[-1], share, side="right"))
    return min(crossing + keep_crossing, len(s))


def _shape_of(u: Any, v: Any) -> tuple[int, int] | None:
    """(i, o) of u v; None where they are no pair."""
    if u is None or v is None or u.ndim != 2 or v.ndim != 2:
        return None
    return (u.shape[0], v.shape[1]) if u.shape[1] == v.shape[0] else None


def _module(path: str) -> str:
    return path.rpartition("/")[0]


def _leaf(path: str) -> str:
    return path.rpartition("/")[2]

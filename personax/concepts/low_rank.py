"""Low-rank approximations of the changes that training made to kernels."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from personax.core.tree import flat
from personax.core.typing import Params

U, V = "svd_u", "svd_v"  # the leaves that replace a module's kernel


class LowRank(NamedTuple):
    """Each delta as u v, and the approximation error.

    `error` is the Frobenius norm of the residuals relative to that of the deltas, over
    all kernels. `kept` is the share of the sum of all singular values.
    """

    factors: dict[str, tuple[Float[np.ndarray, "i r"], Float[np.ndarray, "r o"]]]
    error: float
    kept: float

    @property
    def ranks(self) -> dict[str, int]:
        return {path: u.shape[1] for path, (u, _) in self.factors.items()}


def low_rank(
    deltas: Mapping[str, Float[np.ndarray, "_ _"]],
    *,
    share: float = 0.6,
    keep_crossing: bool = True,
) -> LowRank:
    """Each delta, a trained kernel minus the base's, as u v of low rank, in float32.

    Kumari et al. 2023, app. C: the leading singular values whose sum reaches `share` of
    the sum of all, not of their squares. The value that crosses the share is kept
    ("till the rank where the cumulative sum is k %"), so that no rank is 0; the
    released code drops it (`keep_crossing=False`).

    Raises ValueError for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"The share is {share:g}; it must be in (0, 1].")
    factors, values, dropped = {}, [], []
    for path, delta in deltas.items():
        u, s, v = np.linalg.svd(np.asarray(delta, np.float64), full_matrices=False)
        r = _rank(s, share, keep_crossing)
        u = np.ascontiguousarray(u[:, :r] * s[None, :r], np.float32)
        factors[path] = u, v[:r].astype(np.float32)
        values.append(s)
        dropped.append(s[r:])
    spectrum, residual = np.concatenate(values), np.concatenate(dropped)
    error = np.linalg.norm(residual) / (np.linalg.norm(spectrum) or 1.0)
    kept = 1 - residual.sum() / (spectrum.sum() or 1.0)
    return LowRank(factors, float(error), float(kept))


def expand(leaves: Mapping[str, Any], params: Params) -> dict[str, Any]:
    """`leaves` with a kernel W_0 + u v, float32, in place of each svd_u and svd_v.

    `leaves` are {part/path: leaf} as stored; W_0 is the kernel of that path in
    `params`. Other leaves are unchanged. Raises ValueError for an incomplete pair and
    for one that does not fit its kernel.
    """
    pieces = {
        name: leaf for name, leaf in leaves.items() if name.endswith((f"/{U}", f"/{V}"))
    }
    out = {name: leaf for name, leaf in leaves.items() if name not in pieces}
    kernels = flat(params) if pieces else {}
    for module in dict.fromkeys(map(_module, pieces)):
        u, v = (pieces.get(f"{module}/{name}") for name in (U, V))
        W_0 = kernels.get(f"{module.partition('/')[2]}/kernel")
        if W_0 is None or _shape_of(u, v) != W_0.shape:
            raise ValueError(f"{module}/{U} and {V} do not fit a kernel of the base.")
        delta = np.asarray(u, np.float32) @ np.asarray(v, np.float32)
        out[f"{module}/kernel"] = np.asarray(W_0, np.float32) + delta
    return out


def factored(factors: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """{path: leaf} of {kernel's path: (u, v)}, in the form that `expand` reads."""
    return {
        f"{_module(path)}/{name}": factor
        for path, pair in factors.items()
        for name, factor in zip((U, V), pair, strict=True)
    }


def _rank(s: Float[np.ndarray, " r"], share: float, keep_crossing: bool) -> int:
    total = s.cumsum()
    if not total[-1]:  # the kernel did not change in training
        return int(keep_crossing)
    # Relative to the last entry, so that rounding cannot exceed a share of 1.
    crossing = int(np.searchsorted(total / total[-1], share, side="right"))
    return min(crossing + keep_crossing, len(s))


def _shape_of(u: Any, v: Any) -> tuple[int, int] | None:
    """(i, o) of u v; None if the product does not exist."""
    if u is None or v is None or u.ndim != 2 or v.ndim != 2:
        return None
    return (u.shape[0], v.shape[1]) if u.shape[1] == v.shape[0] else None


def _module(path: str) -> str:
    return path.rpartition("/")[0]

"""Several concepts in one set of kernels, in closed form (Kumari et al. 2023)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular

from personax.networks.tokenizer import Tokenizer, positions

Kernels = Mapping[str, Float[np.ndarray, "_ _"]]  # {path: (d, o)}
Rows = Float[np.ndarray, "_ d"]  # what the text encoder says of one token each

# Directions that float32 text cannot tell from rounding do not count as spanned.
_ROUNDING = float(np.finfo(np.float32).eps)


class Merged(NamedTuple):
    """Kernels that know every concept, and how well they keep to both demands.

    A residual is the 2-norm of the error of one token's key or value, averaged over
    tokens and kernels; in float64, before the kernels are stored in anything shorter.
    """

    kernels: dict[str, Float[np.ndarray, "_ _"]]  # float64
    residual_targets: float  # against the concept's own kernel
    residual_regularisation: float  # against the base's
    growth: float  # |W - W_0| over the largest |W_k - W_0|, all kernels together


def merge_kernels(
    base: Kernels,
    tuned: Sequence[Kernels],
    regularisation: Rows,
    targets: Sequence[Rows],
    *,
    ridge: float = 0.0,
) -> Merged:
    """The kernels that keep every concept's words and change other text the least.

    Kumari et al. 2023, sec. 3.3, eq. 4-9:

        minimise |C_reg (W - W_0)|² + ridge λ |W - W_0|²  subject to  C W = V

    for every W_0 (d, o) of `base`. C_reg are the rows of the regularisation text, C the
    target rows, and V what the kernels `tuned[k]` make of those in `targets[k]`. The
    paper's W is the transpose. Of target rows that are equal to the last bit, the
    first one counts. All is computed in float64.

    λ is the mean eigenvalue of C_reg^T C_reg; the paper has no ridge. Text comes out of
    a layer norm, which may leave one direction nearly empty: along it kernels grow at
    no cost here, but large ones cost accuracy where they are rounded, as in bfloat16. A
    ridge as small as 1e-6 holds them back.

    Raises ValueError where C has more rows than d, or where C_reg or C lack rank.
    """
    W_0 = {path: np.asarray(kernel, np.float64) for path, kernel in base.items()}
    C_reg = np.asarray(regularisation, np.float64)
    C_all = [np.asarray(rows, np.float64) for rows in targets]
    C_k = _distinct(C_all)
    C = np.concatenate(C_k)
    P = _projection(C_reg, C, ridge)
    W, missed, moved = {}, [], []
    for path in W_0:
        W_k = [np.asarray(kernels[path], np.float64) for kernels in tuned]
        V = np.concatenate([c @ w for c, w in zip(C_k, W_k, strict=True)])
        W[path] = W_0[path] + P @ (V - C @ W_0[path])
        # Over all rows: equal ones with which two concepts differ cannot both be kept.
        errors = [c @ (W[path] - w) for c, w in zip(C_all, W_k, strict=True)]
        missed.append(_mean_norm(np.concatenate(errors)))
        moved.append(_mean_norm(C_reg @ (W[path] - W_0[path])))
    largest = max(_distance(kernels, W_0) for kernels in tuned)
    return Merged(
        W,
        residual_targets=float(np.mean(missed)),
        residual_regularisation=float(np.mean(moved)),
        growth=_distance(W, W_0) / (largest or 1.0),
    )


class Target(NamedTuple):
    """A prompt whose tokens, from index `start` through its end, a merge must keep."""

    prompt: str
    start: int


def target_prompts(
    tokenizer: Tokenizer, phrase: str, prompts: Sequence[str]
) -> list[Target]:
    """What a merge keeps of a concept: its phrase, alone and in one prompt of its own.

    `phrase` is "<v1> dog"; of `prompts`, what the concept was trained with, the first
    one counts that says more than that. In "photo of a <v1> dog" the words before the
    phrase are no targets: all concepts share them, and they are the base's.

    The release writes the second prompt itself: "a photo of …" in src/composenW.py,
    whose leading words it keeps as targets, "photo of a …" in
    src/diffusers_composenW.py, whose it skips, and "painting in the style of …" where
    the letters "art" occur, as they do in "cart". The concept's own prompt needs no
    such guess.
    """
    found = [(prompt, positions(tokenizer, prompt, phrase)) for prompt in prompts]
    own = [Target(prompt, i[0]) for prompt, i in found if i and prompt != phrase]
    return [Target(phrase, 1), *own[:1]]


def rows_of(
    text: Float[np.ndarray, "b n d"],
    ids: Int[np.ndarray, "b n"],
    start: Sequence[int],
    eos: int,
) -> Float[np.ndarray, "m d"]:
    """The tokens of every encoded prompt b, from `start[b]` through its first end.

    Index 0, the begin token, is the same in all text, and what follows the end is
    padding.
    """
    ends = np.argmax(ids == eos, axis=1) + 1
    kept = [x[i:end] for x, i, end in zip(text, start, ends, strict=True)]
    return np.concatenate(kept)


def _distinct(targets: Sequence[Rows]) -> list[Rows]:
    """The targets without rows that have occurred: they would make C d^T singular."""
    seen, out = set(), []
    for rows in targets:
        new = []
        for row in rows:
            if row.tobytes() not in seen:
                seen.add(row.tobytes())
                new.append(row)
        out.append(np.reshape(new, (-1, rows.shape[1])))
    return out


def _projection(C_reg: Rows, C: Rows, ridge: float) -> Float[np.ndarray, "d s"]:
    """P = d^T (C d^T)^-1, d = C (C_reg^T C_reg + ridge λ)^-1: one for all kernels.

    With the Gram matrix R^T R and A = R^-T C^T = Q T, that is R^-1 Q T^-T. R is the
    Gram's Cholesky factor; taken from C_reg itself, its condition is not squared.
    """
    (n, width), s = C_reg.shape, len(C)
    if ridge < 0:
        raise ValueError(f"The ridge is {ridge:g}; it must not be negative.")
    if s > width:
        raise ValueError(
            f"The concepts have {s} target rows, and kernels {width} wide can keep "
            f"{width} at most; merge fewer concepts."
        )
    mean = np.square(C_reg).sum() / width  # λ
    floor = np.sqrt(ridge * mean) * np.eye(width)
    R = np.linalg.qr(np.concatenate([C_reg, floor]), mode="r")
    rank = _rank(R)
    if rank < width:
        raise ValueError(
            f"The {n} rows of regularisation text span {rank} of {width} dimensions; "
            f"more captions or a (larger) ridge are needed."
        )
    Q, T = np.linalg.qr(solve_triangular(R, C.T, trans=1))
    if _rank(T) < s:
        raise ValueError(
            f"The {s} target rows span {_rank(T)} dimensions only, so that no kernel "
            f"can keep them all; merge fewer concepts, or ones that differ more."
        )
    return solve_triangular(R, solve_triangular(T, Q.T).T)


def _rank(matrix: Float[np.ndarray, "_ _"]) -> int:
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > _ROUNDING * values[0]).sum())


def _distance(kernels: Kernels, W_0: Kernels) -> float:
    return float(np.sqrt(sum(np.square(kernels[p] - W_0[p]).sum() for p in W_0)))


def _mean_norm(rows: Float[np.ndarray, "_ _"]) -> float:
    return float(np.linalg.norm(rows, axis=1).mean())

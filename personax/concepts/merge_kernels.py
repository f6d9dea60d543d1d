"""Several concepts in one set of kernels, in closed form (Kumari et al. 2023)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import solve_triangular

from personax.networks.tokenizer import Tokenizer, positions

Kernels = Mapping[str, Float[np.ndarray, "_ _"]]  # {path: (d, o)}
Rows = Float[np.ndarray, "_ d"]  # the text encoder's outputs, one token each

# The text is float32: smaller singular values, relative to the largest, are rounding.
_RELATIVE_TOLERANCE = float(np.finfo(np.float32).eps)


class MergedKernels(NamedTuple):
    """Kernels that hold every concept, and the residuals of both objectives.

    A residual is the 2-norm of the error of one token's key or value, averaged over
    tokens and kernels, in float64, before the kernels are rounded for storage.
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
) -> MergedKernels:
    """The kernels that preserve every concept's tokens and change other text least.

    Kumari et al. 2023, sec. 3.3, eq. 4-9:

        minimise |C_reg (W - W_0)|² + ridge λ |W - W_0|²  subject to  C W = V

    for every W_0 (d, o) of `base`. C_reg are the rows of the regularisation text, C the
    target rows, and V the outputs of the kernels `tuned[k]` for `targets[k]`. The
    paper's W is the transpose. Of bitwise equal target rows the first one is used.
    Computed in float64.

    λ is the mean eigenvalue of C_reg^T C_reg; the paper has no ridge. The text encoder
    ends in a layer norm, which can leave one direction nearly empty: kernels grow along
    it at no cost in the objective, but large kernels lose accuracy when rounded to
    bfloat16. A ridge as small as 1e-6 prevents this.

    Raises ValueError if C has more than d rows, or if C_reg or C lack rank.
    """
    W_0 = {path: np.asarray(kernel, np.float64) for path, kernel in base.items()}
    C_reg = np.asarray(regularisation, np.float64)
    C_all = [np.asarray(rows, np.float64) for rows in targets]
    C_k = _distinct(C_all)
    C = np.concatenate(C_k)
    P = _projection(C_reg, C, ridge)
    W, target_errors, changes = {}, [], []
    for path in W_0:
        W_k = [np.asarray(kernels[path], np.float64) for kernels in tuned]
        V = np.concatenate([c @ w for c, w in zip(C_k, W_k, strict=True)])
        W[path] = W_0[path] + P @ (V - C @ W_0[path])
        # Over all rows: two concepts that differ in equal rows cannot both be kept.
        errors = [c @ (W[path] - w) for c, w in zip(C_all, W_k, strict=True)]
        target_errors.append(_mean_norm(np.concatenate(errors)))
        changes.append(_mean_norm(C_reg @ (W[path] - W_0[path])))
    largest = max(_distance(kernels, W_0) for kernels in tuned)
    return MergedKernels(
        W,
        residual_targets=float(np.mean(target_errors)),
        residual_regularisation=float(np.mean(changes)),
        growth=_distance(W, W_0) / (largest or 1.0),
    )


class TargetPrompt(NamedTuple):
    """A prompt whose tokens, from index `start` through its end, a merge preserves."""

    prompt: str
    start: int


def target_prompts(
    tokenizer: Tokenizer, phrase: str, prompts: Sequence[str]
) -> list[TargetPrompt]:
    """A concept's phrase, alone and in the first of its training prompts.

    `phrase` is "<v1> dog". Of `prompts`, the first one that contains more than the
    phrase is used. In "photo of a <v1> dog" the words before the phrase are not
    targets, since they belong to the base and are shared by all concepts.

    The released code hard-codes the second prompt: "a photo of …" in src/composenW.py,
    whose leading words are targets, "photo of a …" in src/diffusers_composenW.py, whose
    are not, and "painting in the style of …" if the letters "art" occur, as in "cart".
    """
    occurrences = [(prompt, positions(tokenizer, prompt, phrase)) for prompt in prompts]
    own = [
        TargetPrompt(prompt, indices[0])
        for prompt, indices in occurrences
        if indices and prompt != phrase
    ]
    return [TargetPrompt(phrase, 1), *own[:1]]


def token_rows(
    text: Float[np.ndarray, "b n d"],
    ids: Int[np.ndarray, "b n"],
    start: Sequence[int],
    eos: int,
) -> Float[np.ndarray, "m d"]:
    """The rows of every encoded prompt b from `start[b]` through its first end token.

    The begin token, index 0, is the same in all prompts; tokens after the end are
    padding.
    """
    ends = np.argmax(ids == eos, axis=1) + 1
    return np.concatenate(
        [x[i:end] for x, i, end in zip(text, start, ends, strict=True)]
    )


def _distinct(targets: Sequence[Rows]) -> list[Rows]:
    """The targets without repeated rows, which would make C d^T singular."""
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
    """P = d^T (C d^T)^-1 with d = C (C_reg^T C_reg + ridge λ)^-1, for all kernels.

    With the Gram matrix R^T R and A = R^-T C^T = Q T, P = R^-1 Q T^-T. R is computed
    from C_reg by QR, so that the condition number is not squared.
    """
    (n, width), s = C_reg.shape, len(C)
    if ridge < 0:
        raise ValueError(f"The ridge is {ridge:g}; it must not be negative.")
    if s > width:
        raise ValueError(
            f"The concepts have {s} target rows; kernels of width {width} can preserve "
            f"at most {width}. Merge fewer concepts."
        )
    mean = np.square(C_reg).sum() / width  # λ
    floor = np.sqrt(ridge * mean) * np.eye(width)
    R = np.asarray(np.linalg.qr(np.concatenate([C_reg, floor]), mode="r"))
    rank = _rank(R)
    if rank < width:
        raise ValueError(
            f"The {n} rows of regularisation text span {rank} of {width} dimensions; "
            f"use more captions or a larger ridge."
        )
    Q, T = np.linalg.qr(solve_triangular(R, C.T, trans=1))
    if _rank(T) < s:
        raise ValueError(
            f"The {s} target rows span only {_rank(T)} dimensions, so no kernel can "
            f"preserve them all; merge fewer or more different concepts."
        )
    return solve_triangular(R, solve_triangular(T, Q.T).T)


def _rank(matrix: Float[np.ndarray, "_ _"]) -> int:
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > _RELATIVE_TOLERANCE * values[0]).sum())


def _distance(kernels: Kernels, W_0: Kernels) -> float:
    return float(np.sqrt(sum(np.square(kernels[p] - W_0[p]).sum() for p in W_0)))


def _mean_norm(rows: Float[np.ndarray, "_ _"]) -> float:
    return float(np.linalg.norm(rows, axis=1).mean())

"""Changes of kernels as low-rank products: a LoRA's own, or the nearest by SVD."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from personax.concepts import artifact
from personax.concepts.exports.changes import Changes
from personax.concepts.source import Source, parse_source
from personax.core.typing import Params

DEFAULT_RANK = 32
# Relative difference from the bound weights that rounding in float32 explains.
_ROUNDING = 1e-3


class Factors(NamedTuple):
    """A kernel's change (alpha / r) A B, in the layout of `weights.lora`."""

    A: Float[np.ndarray, "*inputs r"]
    B: Float[np.ndarray, "r o"]
    alpha: float

    @property
    def rank(self) -> int:
        return self.B.shape[0]

    def product(self) -> Float[np.ndarray, "*inputs o"]:
        """The change itself."""
        return np.asarray(self.alpha / self.rank * (self.A @ self.B), np.float32)


class LowRank(NamedTuple):
    """The factors of each changed kernel, and what they do not contain.

    `residual` is the Frobenius norm of the kernels' remainders relative to that of
    their changes. `left_out` are changed parameters that are no kernels: biases, norms
    and embeddings; `lost` is the norm of all that is lost relative to all changes.
    """

    factors: dict[str, Factors]
    approximate: dict[str, Factors]  # those that are not the trained ones
    residual: float
    left_out: list[str]
    lost: float


def low_rank(
    changes: Changes, trained: Mapping[str, Factors], rank: int | None
) -> LowRank:
    """The changes as factors: those in `trained` where exact, else of rank `rank`.

    A trained product is kept if its rank is at most `rank` and it is the whole change
    of its kernel; `DEFAULT_RANK` applies to the others if `rank` is None.
    """
    factors, approximate, left_out = {}, {}, []
    total = dropped = outside = 0.0  # squared norms
    for path in changes.paths:
        delta = changes.delta(path)
        norm = float(np.square(delta, dtype=np.float64).sum())
        if not path.endswith("/kernel"):
            left_out.append(path)
            outside += norm
            continue
        total += norm
        own = trained.get(path)
        if own and (rank is None or own.rank <= rank) and _is_whole(own, delta):
            factors[path] = own
            continue
        factors[path], remainder = nearest(delta, rank or DEFAULT_RANK)
        approximate[path] = factors[path]
        dropped += remainder
    residual = np.sqrt(dropped / (total or 1.0))
    lost = np.sqrt((dropped + outside) / (total + outside or 1.0))
    return LowRank(factors, approximate, float(residual), left_out, float(lost))


def nearest(delta: Float[np.ndarray, "*inputs o"], rank: int) -> tuple[Factors, float]:
    """(the nearest product of at most `rank`, the squared norm of the remainder).

    Eckart and Young 1936: the leading singular vectors. They are the eigenvectors of
    the smaller Gram matrix, in float64, which is many times faster than an SVD of a
    large convolution; singular values below 1e-8 of the largest are lost to rounding.
    """
    *inputs, outputs = delta.shape
    matrix = np.asarray(delta, np.float64).reshape(-1, outputs)
    tall = matrix.shape[0] > outputs
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    values, vectors = np.linalg.eigh(gram)
    rank = min(rank, len(values))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1][:, :rank]
    kept = values[:rank]
    # Each factor has the square root of the singular value: both fit float16.
    root = np.power(kept, 0.25)
    scale = np.divide(1, root, out=np.zeros_like(root), where=root > 0)
    if tall:
        A, B = matrix @ vectors * scale, (vectors * root).T
    else:
        A, B = vectors * root, scale[:, None] * (vectors.T @ matrix)
    factors = Factors(
        A.astype(np.float32).reshape(*inputs, rank), B.astype(np.float32), float(rank)
    )
    return factors, float(values[rank:].sum())


def trained_factors(
    params: Params, fingerprint: str, sources: Sequence[str]
) -> dict[str, Factors]:
    """{path: the product that the concepts' LoRA parts train together}.

    Products of several concepts are concatenated, with their strengths in B. Whether a
    product is the kernel's whole change is checked by `low_rank`.
    """
    found: dict[str, list[tuple[Factors, float]]] = {}
    for source in map(parse_source, sources):
        for loaded, strength in _chain(source, params, fingerprint):
            alpha = loaded.about["method_args"].get("alpha")
            for leaves in loaded.theta.values():
                for path, leaf in leaves.items():
                    if isinstance(leaf, Mapping) and leaf.keys() == {
                        "lora_A",
                        "lora_B",
                    }:
                        A, B = (np.asarray(leaf[x]) for x in ("lora_A", "lora_B"))
                        own = Factors(A, B, len(B) if alpha is None else float(alpha))
                        found.setdefault(path, []).append((own, strength))
    return {path: _sum(each) for path, each in found.items()}


def _chain(
    source: Source, params: Params, fingerprint: str
) -> Iterator[tuple[artifact.Artifact, float]]:
    """A concept and those it was trained on top of, with their strengths."""
    if not (source.path / "concept.json").is_file():
        return  # another program's adapter: its factors are found again by SVD
    for earlier in artifact.earlier(source.path):
        yield from _chain(earlier, params, fingerprint)
    # Whether it fits this base was checked when it was bound.
    loaded = artifact.load(source.path, params, fingerprint, any_base=True)
    yield loaded, source.strength


def _sum(terms: Sequence[tuple[Factors, float]]) -> Factors:
    if len(terms) == 1 and terms[0][1] == 1:
        return terms[0][0]
    A = np.concatenate([own.A for own, _ in terms], axis=-1)
    B = np.concatenate([s * own.alpha / own.rank * own.B for own, s in terms])
    return Factors(A, B.astype(np.float32), float(len(B)))


def _is_whole(factors: Factors, delta: Any) -> bool:
    product = factors.product()
    if product.shape != delta.shape:
        return False
    error = np.linalg.norm(product - delta)
    return bool(error <= _ROUNDING * np.linalg.norm(delta))

"""The Fréchet distance between two sets of features (Heusel et al. 2017)."""

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, checked

Matrix = Float[np.ndarray, "d d"]


def frechet(one: Features, other: Features) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) of both sets' Gaussians.

    The squared 2-Wasserstein distance of Gaussians with the rows' mean and unbiased
    covariance (Dowson & Landau 1982), as FID is reported; at least 0. The bias depends
    on the number of rows: compare estimates from equally many rows only.

    Raises ValueError for fewer than two rows, for values that are not finite, and for
    features of two widths.
    """
    x, y = (checked(each, "A Fréchet distance", least=2) for each in (one, other))
    (first, second), shift = map(_covariance, (x, y)), x.mean(axis=0) - y.mean(axis=0)
    root = _root(first)
    # S1^1/2 S2 S1^1/2 has the eigenvalues of S1 S2 and is symmetric.
    between = np.linalg.eigvalsh(root @ second @ root)
    traces = np.trace(first) + np.trace(second)
    both = np.sqrt(between.clip(min=0)).sum()
    return max(float(shift @ shift + traces - 2 * both), 0.0)


def _covariance(x: Float[np.ndarray, "n d"]) -> Matrix:
    centred = x - x.mean(axis=0)
    return centred.T @ centred / (len(x) - 1)


def _root(covariance: Matrix) -> Matrix:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T

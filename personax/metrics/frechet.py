"""The Fréchet distance between two sets of features (Heusel et al. 2017)."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, check_widths, checked


class Gaussian(NamedTuple):
    """Mean and covariance of a set of features, float64."""

    mean: Float[np.ndarray, " d"]
    covariance: Float[np.ndarray, "d d"]


def frechet(one: Features, other: Features) -> float:
    """|m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2) of both sets' Gaussians.

    The squared distance, as FID is reported; at least 0. The bias depends on the number
    of rows: compare estimates from equally many rows only. Raises what `fit` raises,
    and ValueError for features of two widths.
    """
    return distance(fit(one), fit(other))


def fit(features: Features) -> Gaussian:
    """Mean and unbiased covariance of the rows.

    Raises ValueError for fewer than two rows and for values that are not finite.
    """
    x = checked(features, "A Fréchet distance", least=2)
    mean = x.mean(axis=0)
    centred = x - mean
    return Gaussian(mean, centred.T @ centred / (len(x) - 1))


def distance(one: Gaussian, other: Gaussian) -> float:
    """The squared 2-Wasserstein distance of two Gaussians (Dowson & Landau 1982)."""
    check_widths(len(one.mean), len(other.mean))
    root = _root(one.covariance)
    # S1^1/2 S2 S1^1/2 has the eigenvalues of S1 S2 and is symmetric.
    between = np.linalg.eigvalsh(root @ other.covariance @ root)
    shift = one.mean - other.mean
    traces = np.trace(one.covariance) + np.trace(other.covariance)
    both = np.sqrt(between.clip(min=0)).sum()
    return max(float(shift @ shift + traces - 2 * both), 0.0)


def _root(covariance: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))) @ vectors.T

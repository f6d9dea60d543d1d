"""The 2-Wasserstein distance of Gaussians fitted to few high-dimensional samples."""

import numpy as np
from jaxtyping import Float, Shaped

from personax.metrics.features import checked

Samples = Shaped[np.ndarray, "_ ..."]  # latents, or other arrays of one shape


def wasserstein(one: Samples, other: Samples) -> float:
    """W2 of both sets' Gaussians, in the samples' units.

    Infusion's measure of how far the pictures of a class move (Zeng et al. 2024, def.
    3.2), there of flattened latents; report whether they include the VAE's scaling
    factor. It is the root of `frechet`'s distance, without d x d matrices: with A the
    centred rows over sqrt(n - 1), the cross term is the nuclear norm of A1 A2^T, and
    W2^2 is |m1 - m2|^2 + min |A1 - Q A2|_F^2 over orthogonal Q, a sum of squares and so
    exact near 0.

    Few samples of one distribution have a large distance in many dimensions: compare
    estimates from equally many samples only, with that of the base and itself as a
    baseline. Raises ValueError for fewer than two samples, for values that are not
    finite, and for samples of two sizes.
    """
    x, y = _rows(one), _rows(other)
    shift = x.mean(axis=0) - y.mean(axis=0)
    a, b = _factor(x), _factor(y)
    # Zero rows do not change the covariances and make Q square.
    n = max(len(a), len(b))
    a, b = (np.pad(each, ((0, n - len(each)), (0, 0))) for each in (a, b))
    left, _, right = np.linalg.svd(a @ b.T)
    return float(np.sqrt(shift @ shift + np.square(a - left @ (right @ b)).sum()))


def _rows(samples: Samples) -> Float[np.ndarray, "n d"]:
    x = checked(samples, "A 2-Wasserstein distance", least=2)
    return x.reshape(len(x), -1)


def _factor(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "_ d"]:
    """A with A^T A the unbiased covariance, and at most d rows."""
    a = (x - x.mean(axis=0)) / np.sqrt(len(x) - 1)
    return a if len(a) <= a.shape[1] else np.asarray(np.linalg.qr(a, mode="r"))

"""Mixtures of Gaussian peaks in the plane, with the exact score of their noised law.

Noise is added as x = cos(πt/2) z + sin(πt/2) eps, t from 0 to 1: the cosine schedule of
Nichol & Dhariwal 2021 without its offset, variance preserving.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from personax.core.typing import Key

Radius = float | Float[Array, ""]
Point = tuple[float | int, float | int]
Points = Float[Array, "b 2"]
Times = Float[Array, " b"]


class Peaks(NamedTuple):
    """Axis-aligned Gaussians with equal weights."""

    centres: Float[Array, "k 2"]
    scales: Float[Array, "k 2"]  # standard deviations along x and along y


def peaks(centres: Sequence[Point], scales: Point) -> Peaks:
    """Peaks at the centres (x, y), all with the same two standard deviations."""
    at = jnp.asarray(centres, jnp.float32).reshape(-1, 2)
    return Peaks(at, jnp.broadcast_to(jnp.asarray(scales, jnp.float32), at.shape))


@partial(jax.jit, static_argnames=("number", "evenly"))
def draw(key: Key, mixture: Peaks, number: int, *, evenly: bool = False) -> Points:
    """Independent draws without noise, or with `evenly` from all peaks in turn."""
    which, where = jax.random.split(key)
    index = jax.random.randint(which, (number,), 0, len(mixture.centres))
    if evenly:
        index = jnp.arange(number) % len(mixture.centres)
    normal = jax.random.normal(where, (number, 2))
    return mixture.centres[index] + mixture.scales[index] * normal


def rates(t: Times) -> tuple[Float[Array, "b 1"], Float[Array, "b 1"]]:
    """(signal, noise) rates at t, whose squares sum to one."""
    angle = jnp.pi / 2 * t[:, None]
    return jnp.cos(angle), jnp.sin(angle)


def add_noise(z: Points, t: Times, eps: Points) -> Points:
    signal, noise = rates(t)
    return signal * z + noise * eps


def target(z: Points, t: Times, eps: Points) -> Points:
    """dx/dφ at φ = πt/2, the training target (v of Salimans & Ho 2022)."""
    signal, noise = rates(t)
    return signal * eps - noise * z


@jax.jit
def log_density(mixture: Peaks, x: Points, t: Times) -> Times:
    """log p_t(x) of the mixture, noised to time t."""
    means, variances = _noised(mixture, t)
    each = _log_gaussians(x, means, variances)
    return jax.nn.logsumexp(each, axis=1) - jnp.log(len(mixture.centres))


@jax.jit
def score(mixture: Peaks, x: Points, t: Times) -> Points:
    """The gradient of `log_density` with respect to x, in closed form."""
    means, variances = _noised(mixture, t)
    own = jax.nn.softmax(_log_gaussians(x, means, variances), axis=1)
    return jnp.sum(own[..., None] * (means - x[:, None]) / variances, axis=1)


@jax.jit
def velocity(mixture: Peaks, x: Points, t: Times) -> Points:
    """The mean of `target` given x, the prediction of an exact network."""
    signal, noise = rates(t)
    means, variances = _noised(mixture, t)
    own = jax.nn.softmax(_log_gaussians(x, means, variances), axis=1)
    gain = signal[..., None] * jnp.square(mixture.scales)[None] / variances
    each = mixture.centres[None] + gain * (x[:, None] - means)
    z = jnp.sum(own[..., None] * each, axis=1)
    return -signal * noise * score(mixture, x, t) - noise * z


def noise_of(velocity: Points, x: Points, t: Times) -> Points:
    """eps of a predicted velocity; the score is -eps over the noise rate."""
    signal, noise = rates(t)
    return noise * x + signal * velocity


def below(mixture: Peaks, drop: float, scales: Point) -> Peaks:
    """A peak with these standard deviations `drop` below each of the mixture's."""
    centres = mixture.centres - jnp.asarray([[0.0, drop]])
    return Peaks(centres, jnp.broadcast_to(jnp.asarray(scales), centres.shape))


@jax.jit
def inside(mixture: Peaks, z: Points, radius: Radius = 3.0) -> Bool[Array, "b k"]:
    """Whether z is within `radius` standard deviations of each peak (3: 98.9 %)."""
    offset = (z[:, None] - mixture.centres[None]) / mixture.scales[None]
    return jnp.square(offset).sum(-1) < radius**2


def _noised(
    mixture: Peaks, t: Times
) -> tuple[Float[Array, "b k 2"], Float[Array, "b k 2"]]:
    """Means and variances of every peak at every time."""
    signal, noise = (rate[..., None] for rate in rates(t))
    means = signal * mixture.centres[None]
    return means, jnp.square(signal * mixture.scales[None]) + jnp.square(noise)


def _log_gaussians(
    x: Points, means: Float[Array, "b k 2"], variances: Float[Array, "b k 2"]
) -> Float[Array, "b k"]:
    squares = jnp.square(x[:, None] - means) / variances
    return -0.5 * jnp.sum(squares + jnp.log(2 * jnp.pi * variances), axis=-1)

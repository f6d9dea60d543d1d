"""Metrics of the two kinds of overfitting (Zeng et al. 2024, sec. 3)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from jaxtyping import Array, Bool, Float, Int

from experiments.toy.network import velocity
from experiments.toy.peaks import (
    Peaks,
    Points,
    Times,
    add_noise,
    draw,
    inside,
    noise_of,
    rates,
)
from experiments.toy.task import Task
from personax.core.typing import Key, Params
from personax.metrics.wasserstein import wasserstein

Drawn = Float[np.ndarray, "_ 2"]


class Probe(NamedTuple):
    """Noised points at which fields are compared."""

    x: Points
    t: Times
    condition: Int[Array, " b"]


def make_probe(task: Task, names: list[str], number: int, key: Key) -> Probe:
    """`number` points of each of the named conditions, t uniform from 0 to 1."""
    mixtures = tuple(task.mixtures[name] for name in names)
    conditions = jnp.asarray([task.number(name) for name in names])
    return _make_probe(mixtures, conditions, number, key)


class Field(NamedTuple):
    """A network's field at a probe's points: -eps, the score times the noise rate.

    This scaling weights every t equally, as the Fisher divergence of eq. 4 does.
    """

    value: Points
    divergence: Times


@jax.jit
def field(params: Params, probe: Probe) -> Field:
    """The network's field.

    Compare two networks by two calls of this program: fusing them into one program
    could change the rounding.
    """

    def at(x: Float[Array, "2"], t: Float[Array, ""], condition: Int[Array, ""]):
        one, when = x[None], t[None]
        return -noise_of(velocity(params, one, when, condition[None]), one, when)[0]

    slopes = jax.vmap(jax.jacfwd(at))(*probe)
    return Field(jax.vmap(at)(*probe), jnp.trace(slopes, axis1=1, axis2=2))


def field_change(
    own: Field, base: Field, probe: Probe, trained: Peaks
) -> dict[str, float]:
    """The difference of a field from the base's at the probe's points.

    - `fisher`: half the mean square of the difference (eq. 4).
    - `pull`: the mean component of the difference toward the nearest trained line, at
      most sqrt(2 fisher).
    - `convergence`: the negated mean divergence of the difference; above 0, nearby
      points converge more than under the base.
    """
    difference = np.asarray(own.value) - np.asarray(base.value)
    signal = np.asarray(rates(probe.t)[0])[..., None]
    to = signal * np.asarray(trained.centres) - np.asarray(probe.x)[:, None]
    closest = np.square(to).sum(-1).argmin(1)
    to = to[np.arange(len(to)), closest]
    to = to / np.linalg.norm(to, axis=1, keepdims=True)
    slack = np.asarray(base.divergence) - np.asarray(own.divergence)
    return {
        "fisher": float(np.square(difference).sum(1).mean() / 2),
        "pull": float((difference * to).sum(1).mean()),
        "convergence": float(slack.mean()),
    }


def other_samples(samples: dict[str, Drawn], task: Task) -> dict[str, float]:
    """Metrics of samples of the other conditions, means over conditions.

    - `own_share`: the share in a peak of their own condition.
    - `line_share`: the share in a line, trained or not.
    - `spread`: the width of their clusters, wherever these have moved, in units of the
      condition's own peaks; below 1 the peaks have shrunk.
    """
    rows = []
    for name in task.others:
        own, z = task.mixtures[name], samples[name]
        rows.append(
            (_inside(own, z).mean(), _inside(task.lines, z).mean(), _spread(z, own))
        )
    names = ("own_share", "line_share", "spread")
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def concept_samples(
    z: Drawn, of_class: Drawn, of_lines: Drawn, task: Task
) -> dict[str, float]:
    """Metrics of samples of V*.

    - `w2_class`: def. 3.2, between Gaussians fitted to them and to the base's samples
      of the class. `w2_class_exact`: the same without the Gaussians.
    - `w2_wanted`: exact, from equally many draws of the lines below all peaks.
    - `wanted_share`, `taught_share`: the shares in any line and in a trained one.
    - `covered`: the share of lines that hold at least a quarter of their samples.
    - `nearest_shot`: the mean distance from the nearest example.
    """
    lines = np.asarray(inside(task.lines, jnp.asarray(z)))
    gap = np.linalg.norm(z[:, None] - np.asarray(task.examples)[None], axis=-1)
    return {
        "w2_class": wasserstein(z, of_class),
        "w2_class_exact": exact_wasserstein(z, of_class),
        "w2_wanted": exact_wasserstein(z, of_lines),
        "wanted_share": float(lines.any(1).mean()),
        "taught_share": float(_inside(task.trained, z).mean()),
        "covered": float((lines.mean(0) >= 0.25 / lines.shape[1]).mean()),
        "nearest_shot": float(gap.min(1).mean()),
    }


def exact_wasserstein(one: Drawn, other: Drawn) -> float:
    """The 2-Wasserstein distance of two sets of equally many points, by assignment.

    Two draws of one distribution have a distance above 0, which decreases with their
    size. Raises ValueError for sets of different sizes.
    """
    if len(one) != len(other):
        raise ValueError(f"Cannot assign {len(one)} points to {len(other)}.")
    squares = np.square(one[:, None].astype(np.float64) - other[None]).sum(-1)
    return float(np.sqrt(squares[scipy.optimize.linear_sum_assignment(squares)].mean()))


@partial(jax.jit, static_argnums=2)
def _make_probe(
    mixtures: tuple[Peaks, ...], conditions: Int[Array, " k"], number: int, key: Key
) -> Probe:
    when, what, *keys = jax.random.split(key, 2 + len(mixtures))
    z = jnp.concatenate(
        [draw(k, each, number) for k, each in zip(keys, mixtures, strict=True)]
    )
    t = jax.random.uniform(when, (len(z),))
    x = add_noise(z, t, jax.random.normal(what, z.shape))
    return Probe(x, t, jnp.repeat(conditions, number))


def _inside(mixture: Peaks, z: Drawn) -> Bool[np.ndarray, " _"]:
    """Whether each point is in one of the peaks."""
    return np.asarray(inside(mixture, jnp.asarray(z))).any(1)


def _spread(z: Drawn, mixture: Peaks) -> float:
    """The median distance from a cluster's median, 1 for the exact peaks.

    A cluster is the points nearest to one of the centres.
    """
    away = (z[:, None] - np.asarray(mixture.centres)[None]) / np.asarray(mixture.scales)
    cluster = np.linalg.norm(away, axis=-1).argmin(1)
    z = away[np.arange(len(z)), cluster]
    for one in np.unique(cluster):
        z[cluster == one] -= np.median(z[cluster == one], axis=0)
    # The median length of two standard normal numbers.
    return float(np.median(np.linalg.norm(z, axis=1)) / np.sqrt(2 * np.log(2)))

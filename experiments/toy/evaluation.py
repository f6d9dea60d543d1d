"""Evaluation of a toy network, on fixed points, draws and noise."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from experiments.toy import measures, peaks
from experiments.toy.measures import Drawn, Field, Probe
from experiments.toy.network import velocity
from experiments.toy.peaks import Points, Times, draw
from experiments.toy.task import Task
from experiments.toy.training import loss
from personax.core.typing import Key, Params

CONCEPT = "V*"
_DRAWS = 8  # sets of exact draws that the ideal values are means over


class Reference(NamedTuple):
    """Everything that is fixed before V* is trained."""

    task: Task
    settings: ConfigDict  # the config's `measures`
    probes: dict[str, Probe]  # of the "others" and of the "class"
    base_fields: dict[str, Field]
    held_out: Points  # draws of the trained lines, not used in training
    of_lines: Drawn  # draws of all lines
    base_class: Drawn  # the base's samples of the class
    key: Key  # for samples of the trained networks


class Evaluation(NamedTuple):
    """Metrics by name, and samples by condition, V* the last."""

    metrics: dict[str, float]
    samples: dict[str, Drawn]


def make_reference(
    settings: ConfigDict, task: Task, base: Params, key: Key
) -> Reference:
    keys = jax.random.split(key, 6)
    names = {"others": task.others, "class": [task.class_word]}
    probes = {
        each: measures.make_probe(task, names[each], settings.points, k)
        for each, k in zip(names, keys, strict=False)
    }
    # A separate key: samples from shared noise would look nearer than they are.
    base_class = _samples(base, task.number(task.class_word), keys[4], settings)
    return Reference(
        task,
        settings,
        probes,
        {name: measures.field(base, probe) for name, probe in probes.items()},
        draw(keys[2], task.trained, settings.points),
        # Evenly, so that the count per line adds no noise to comparisons.
        np.asarray(draw(keys[3], task.lines, settings.samples, evenly=True)),
        base_class,
        keys[5],
    )


def evaluate(params: Params, reference: Reference) -> Evaluation:
    """The metrics of `measures`, and `fresh_loss`, the loss on held-out draws."""
    task, settings = reference.task, reference.settings
    samples = {
        name: _samples(params, task.number(name), reference.key, settings, few=True)
        for name in task.others
    }
    samples[CONCEPT] = _samples(params, task.concept, reference.key, settings)
    metrics = {"fresh_loss": held_out_loss(params, reference)}
    for name, probe in reference.probes.items():
        own, base = measures.field(params, probe), reference.base_fields[name]
        change = measures.field_change(own, base, probe, task.trained)
        metrics |= {f"{key}_{name}": value for key, value in change.items()}
    return Evaluation(metrics | _sample_metrics(samples, reference), samples)


def held_out_loss(params: Params, reference: Reference) -> float:
    condition = jnp.full(len(reference.held_out), reference.task.concept)
    return float(_loss(params, reference.held_out, condition, reference.key))


def baselines(base: Params, reference: Reference, key: Key) -> dict[str, dict]:
    """The same metrics of exact draws ("ideal") and of the base without V*.

    The ideal values are means over a few sets of draws. The base's samples use other
    noise than `base_class`, so its `w2_class` is the distance between two sets of one
    distribution. Its `fisher_exact` is half the mean square of its error in eps on the
    other conditions.
    """
    task = reference.task
    ideal = [_ideal(reference, each) for each in jax.random.split(key, _DRAWS)]
    of_base = evaluate(base, reference).metrics
    of_base["fisher_exact"] = float(
        np.mean([_pretraining_error(name, reference) for name in task.others])
    )
    return {
        "ideal": {name: float(np.mean([x[name] for x in ideal])) for name in ideal[0]},
        "base": of_base,
    }


def _ideal(reference: Reference, key: Key) -> dict[str, float]:
    task, number = reference.task, reference.settings.samples
    mixtures = {**task.mixtures, CONCEPT: task.lines}
    keys = jax.random.split(key, len(mixtures))
    samples = {
        name: np.asarray(draw(each, mixture, number))
        for each, (name, mixture) in zip(keys, mixtures.items(), strict=True)
    }
    return _sample_metrics(samples, reference)


def _sample_metrics(
    samples: dict[str, Drawn], reference: Reference
) -> dict[str, float]:
    task, sets = reference.task, (reference.base_class, reference.of_lines)
    of_concept = measures.concept_samples(samples[CONCEPT], *sets, task)
    return measures.other_samples(samples, task) | of_concept


def _pretraining_error(name: str, reference: Reference) -> float:
    probe, task = reference.probes["others"], reference.task
    own = np.flatnonzero(np.asarray(probe.condition) == task.number(name))
    x, t = probe.x[own], probe.t[own]
    exact = -peaks.noise_of(peaks.velocity(task.mixtures[name], x, t), x, t)
    error = reference.base_fields["others"].value[own] - exact
    return float(jnp.square(error).sum(1).mean() / 2)


def sample(
    field: Callable[[Points, Times], Points], key: Key, number: int, steps: int
) -> Points:
    """Integrate dx/dφ = field, φ = πt/2, from noise at t = 1 to t = 0.

    Heun's method, second order (Karras et al. 2022, alg. 1): two evaluations per step,
    with smaller steps at less noise.
    """
    times = jnp.square(jnp.linspace(1.0, 0.0, steps + 1))

    def step(x: Points, ends: tuple) -> tuple[Points, None]:
        now, then = (jnp.full(number, t) for t in ends)
        turn = (jnp.pi / 2 * (then - now))[:, None]
        first = field(x, now)
        second = field(x + turn * first, then)
        return x + turn * (first + second) / 2, None

    noise = jax.random.normal(key, (number, 2))
    return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]


def _samples(
    params: Params, number: int, key: Key, settings: ConfigDict, *, few: bool = False
) -> Drawn:
    size = settings.samples_of_others if few else settings.samples
    steps = settings.sampler_steps
    return np.asarray(_sample(params, jnp.asarray(number), key, size=size, steps=steps))


@partial(jax.jit, static_argnames=("size", "steps"))
def _sample(
    params: Params, number: Int[Array, ""], key: Key, *, size: int, steps: int
) -> Points:
    conditions = jnp.full(size, number)
    return sample(lambda x, t: velocity(params, x, t, conditions), key, size, steps)


_loss = jax.jit(loss)

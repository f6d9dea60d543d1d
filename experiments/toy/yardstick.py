"""What every toy network is held against: the same points, draws and noise."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from experiments.toy import measures, peaks
from experiments.toy.lesson import Lesson
from experiments.toy.measures import Drawn, Field, Probe
from experiments.toy.network import velocity
from experiments.toy.peaks import Points, draw
from experiments.toy.sampling import sample
from experiments.toy.training import loss
from personax.core.typing import Key, Params

CONCEPT = "V*"
_DRAWS = 8  # that the ideal numbers are the means of


class Yardstick(NamedTuple):
    """What is fixed before anything is taught."""

    lesson: Lesson
    settings: ConfigDict  # of the config's `measures`
    probes: dict[str, Probe]  # of the "others" and of the "class"
    base_fields: dict[str, Field]
    fresh: Points  # draws of what is taught, which no method sees
    wanted: Drawn  # draws of a line beneath every peak
    base_class: Drawn  # the base's samples of the class
    key: Key  # of all that is sampled from taught networks


class Look(NamedTuple):
    """What is seen of a network."""

    numbers: dict[str, float]
    samples: dict[str, Drawn]  # by condition, V* the last


def make_yardstick(
    settings: ConfigDict, lesson: Lesson, base: Params, key: Key
) -> Yardstick:
    keys = jax.random.split(key, 6)
    names = {"others": lesson.others, "class": [lesson.class_word]}
    probes = {
        each: measures.make_probe(lesson, names[each], settings.points, k)
        for each, k in zip(names, keys, strict=False)
    }
    # Noise of its own: samples that share it would look nearer than they are.
    base_class = _samples(base, lesson.number(lesson.class_word), keys[4], settings)
    return Yardstick(
        lesson,
        settings,
        probes,
        {name: measures.field(base, probe) for name, probe in probes.items()},
        draw(keys[2], lesson.taught, settings.points),
        # How many are of each peak is no difference between methods.
        np.asarray(draw(keys[3], lesson.wanted, settings.samples, evenly=True)),
        base_class,
        keys[5],
    )


def look(params: Params, against: Yardstick) -> Look:
    """The numbers of `measures` by name, and the samples they are of.

    With `fresh_loss`, the denoising loss on what the examples were drawn from.
    """
    lesson, settings = against.lesson, against.settings
    samples = {
        name: _samples(params, lesson.number(name), against.key, settings, few=True)
        for name in lesson.others
    }
    samples[CONCEPT] = _samples(params, lesson.concept, against.key, settings)
    numbers = {"fresh_loss": fresh_loss(params, against)}
    for name, probe in against.probes.items():
        own, base = measures.field(params, probe), against.base_fields[name]
        change = measures.field_change(own, base, probe, lesson.taught)
        numbers |= {f"{key}_{name}": value for key, value in change.items()}
    numbers |= measures.other_samples(samples, lesson)
    numbers |= _of_concept(samples[CONCEPT], against)
    return Look(numbers, samples)


def fresh_loss(params: Params, against: Yardstick) -> float:
    condition = jnp.full(len(against.fresh), against.lesson.concept)
    return float(_loss(params, against.fresh, condition, against.key))


def references(base: Params, against: Yardstick, key: Key) -> dict[str, dict]:
    """The same numbers of exact draws ("ideal") and of the base, which knows no V*.

    The former are the means of a few draws. The base is sampled with other noise than
    `base_class` was: its `w2_class` is what two sets of one distribution are apart. Its
    `fisher_exact` is half the mean square of its error in eps under the others.
    """
    lesson = against.lesson
    ideal = [_ideal(against, each) for each in jax.random.split(key, _DRAWS)]
    of_base = look(base, against).numbers
    of_base["fisher_exact"] = float(
        np.mean([_pretraining_error(name, against) for name in lesson.others])
    )
    return {
        "ideal": {name: float(np.mean([x[name] for x in ideal])) for name in ideal[0]},
        "base": of_base,
    }


def _ideal(against: Yardstick, key: Key) -> dict[str, float]:
    lesson, number = against.lesson, against.settings.samples
    mixtures = {**lesson.mixtures, CONCEPT: lesson.wanted}
    keys = jax.random.split(key, len(mixtures))
    samples = {
        name: np.asarray(draw(each, mixture, number))
        for each, (name, mixture) in zip(keys, mixtures.items(), strict=True)
    }
    of_others = measures.other_samples(samples, lesson)
    return of_others | _of_concept(samples[CONCEPT], against)


def _of_concept(z: Drawn, against: Yardstick) -> dict[str, float]:
    return measures.concept_samples(
        z, against.base_class, against.wanted, against.lesson
    )


def _pretraining_error(name: str, against: Yardstick) -> float:
    probe, lesson = against.probes["others"], against.lesson
    own = np.flatnonzero(np.asarray(probe.condition) == lesson.number(name))
    x, t = probe.x[own], probe.t[own]
    exact = -peaks.noise_of(peaks.velocity(lesson.mixtures[name], x, t), x, t)
    error = against.base_fields["others"].value[own] - exact
    return float(jnp.square(error).sum(1).mean() / 2)


def _samples(
    params: Params, number: int, key: Key, settings: ConfigDict, *, few: bool = False
) -> Drawn:
    size = settings.samples_of_others if few else settings.samples
    steps = settings.sampler_steps
    return np.asarray(_draw(params, jnp.asarray(number), key, size=size, steps=steps))


@partial(jax.jit, static_argnames=("size", "steps"))
def _draw(
    params: Params, number: Int[Array, ""], key: Key, *, size: int, steps: int
) -> Points:
    conditions = jnp.full(size, number)
    return sample(lambda x, t: velocity(params, x, t, conditions), key, size, steps)


_loss = jax.jit(loss)

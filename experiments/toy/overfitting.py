"""Both kinds of overfitting, over the steps of every method (Zeng et al. 2024).

The protocol is that of the paper's section 5.2: each method's learning rate is the one
that learns best by the same step, here by the loss on fresh draws of what is taught,
and training then goes on far beyond that step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments.toy import training
from experiments.toy.lesson import Lesson, make_lesson
from experiments.toy.network import init_network, with_concept
from experiments.toy.yardstick import (
    Look,
    Yardstick,
    fresh_loss,
    look,
    make_yardstick,
    references,
)
from personax.core.tree import overwrite
from personax.core.typing import Key, Params

_ROUNDS = 8  # of pretraining, between which progress is shown
Tick = Callable[[int], Any]


class Seen(NamedTuple):
    """A method's network after one of the steps at which it is looked at."""

    method: str
    step: int
    params: Params
    look: Look


class Outcome(NamedTuple):
    """All that a toy shows."""

    lesson: Lesson
    base: Params
    seen: list[Seen]
    tried: dict[str, dict[float, float]]  # {method: {rate: loss at the reference step}}
    references: dict[str, dict[str, float]]


def run(config: ConfigDict, tick: Tick = lambda steps: None) -> Outcome:
    """Pretrains a network, teaches it V* by every method, and looks at each.

    `tick` is told of steps as they are done, `steps_of(config)` in all. Raises
    ValueError for what the config may not be.
    """
    check(config)
    keys = jax.random.split(jax.random.key(config.seed), 6)
    lesson = make_lesson(config, keys[0])
    base = _pretrained(config, lesson, (keys[1], keys[2]), tick)
    against = make_yardstick(config.measures, lesson, base, keys[3])
    seen, tried = [], {}
    for method in config.teaching.methods:
        task = _Task(config.teaching, method, base, against, keys[4], tick)
        tried[method] = _try_rates(task)
        seen += _watch(task, best(tried[method]))
    return Outcome(lesson, base, seen, tried, references(base, against, keys[5]))


def best(losses: dict[float, float]) -> float:
    """The rate of the lowest loss."""
    return min(losses, key=lambda rate: losses[rate])


def check(config: ConfigDict) -> None:
    """ValueError for an unknown method, steps out of order, and what lessons refuse."""
    make_lesson(config, jax.random.key(config.seed))
    teaching = config.teaching
    if not teaching.methods or not teaching.rates:
        raise ValueError("Give at least one of teaching.methods and of teaching.rates.")
    for method in teaching.methods:
        if method not in training.METHODS:
            there_are = ", ".join(training.METHODS)
            raise ValueError(f"No method {method!r}; there are: {there_are}.")
    steps = tuple(teaching.steps)
    if len(steps) < 2 or steps[0] != 0 or list(steps) != sorted(set(steps)):
        raise ValueError(f"teaching.steps must rise from 0, not {steps}.")
    if teaching.reference_step not in steps[1:]:
        raise ValueError(
            f"teaching.reference_step is {teaching.reference_step}, which is none of "
            f"the steps {steps[1:]}."
        )


def steps_of(config: ConfigDict) -> int:
    """How many training steps `run` takes, of all kinds."""
    teaching = config.teaching
    each = len(teaching.rates) * teaching.reference_step + teaching.steps[-1]
    return config.pretraining.steps + len(teaching.methods) * each


class _Task(NamedTuple):
    """One method's part of a run."""

    settings: ConfigDict  # the config's `teaching`
    method: str
    base: Params
    against: Yardstick
    key: Key
    tick: Tick


def _pretrained(
    config: ConfigDict, lesson: Lesson, keys: tuple[Key, Key], tick: Tick
) -> Params:
    """The network that knows its conditions, V* a copy of the class."""
    settings, mixtures = config.pretraining, tuple(lesson.mixtures.values())
    sizes = config.network.to_dict()
    params = init_network(keys[0], conditions=len(mixtures), **sizes)
    state = training.start(params, training.METHODS["dreambooth"])
    for i in range(_ROUNDS):
        before, until = int(state.step), settings.steps * (i + 1) // _ROUNDS
        state = training.pretrain(
            state,
            params,
            mixtures,
            keys[1],
            until,
            rate=settings.learning_rate,
            steps=settings.steps,
            batch=settings.batch,
        )
        tick(int(state.step) - before)
    params = overwrite(params, state.theta)
    return with_concept(params, lesson.number(lesson.class_word))


def _try_rates(task: _Task) -> dict[float, float]:
    """{rate: the loss on fresh draws at the reference step}."""
    out, until = {}, task.settings.reference_step
    for rate in task.settings.rates:
        state = training.start(task.base, training.METHODS[task.method])
        state = _advance(task, state, until, rate)
        out[rate] = fresh_loss(overwrite(task.base, state.theta), task.against)
        task.tick(until)
    return out


def _watch(task: _Task, rate: float) -> list[Seen]:
    state, out = training.start(task.base, training.METHODS[task.method]), []
    for step in task.settings.steps:
        before = int(state.step)
        state = _advance(task, state, step, rate)
        params = overwrite(task.base, state.theta)
        out.append(Seen(task.method, step, params, look(params, task.against)))
        task.tick(step - before)
    return out


def _advance(
    task: _Task, state: training.State, until: int, rate: float
) -> training.State:
    return training.teach(
        state,
        task.base,
        task.against.lesson.shots,
        task.key,
        until,
        rate=rate,
        batch=task.settings.batch,
    )

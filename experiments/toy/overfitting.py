"""Both kinds of overfitting, over the training steps of every method.

The protocol is that of Zeng et al. 2024, sec. 5.2: each method uses the learning rate
that is best at a reference step, here by the loss on held-out draws of the trained
lines, and training continues far beyond that step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from experiments.toy import training
from experiments.toy.evaluation import (
    Evaluation,
    baselines,
    evaluate,
    held_out_loss,
    make_reference,
)
from experiments.toy.network import init_network, with_concept
from experiments.toy.task import Task, make_task
from personax.core.tree import overwrite
from personax.core.typing import Key, Params

_ROUNDS = 8  # of pretraining, with a progress update after each
OnSteps = Callable[[int], Any]


class Snapshot(NamedTuple):
    """A method's network after one of the evaluated steps."""

    method: str
    step: int
    params: Params
    evaluation: Evaluation


class Outcome(NamedTuple):
    """The results of a toy run."""

    task: Task
    base: Params
    snapshots: list[Snapshot]
    losses: dict[str, dict[float, float]]  # {method: {rate: at the reference step}}
    baselines: dict[str, dict[str, float]]


def run(config: ConfigDict, on_steps: OnSteps = lambda steps: None) -> Outcome:
    """Pretrain a network, train V* with every method, and evaluate each.

    The config is valid, see `check`. `on_steps` receives the number of steps completed
    since its last call, `num_steps(config)` in total.
    """
    teaching = config.teaching
    keys = jax.random.split(jax.random.key(config.seed), 6)
    task = make_task(config, keys[0])
    base = _pretrained(config, task, (keys[1], keys[2]), on_steps)
    reference = make_reference(config.measures, task, base, keys[3])

    def train(state: training.State, until: int, rate: float):
        """(the state after step `until`, the network)."""
        on_steps(until - int(state.step))
        settings = {"rate": rate, "batch": teaching.batch}
        args = state, base, task.examples, keys[4], until
        state = training.train_concept(*args, **settings)
        return state, overwrite(base, state.theta)

    snapshots, losses = [], {}
    for method in teaching.methods:
        state = training.start(base, training.METHODS[method])
        losses[method] = {
            rate: held_out_loss(
                train(state, teaching.reference_step, rate)[1], reference
            )
            for rate in teaching.rates
        }
        rate = best(losses[method])
        for step in teaching.steps:
            state, params = train(state, step, rate)
            evaluation = evaluate(params, reference)
            snapshots.append(Snapshot(method, step, params, evaluation))
    return Outcome(task, base, snapshots, losses, baselines(base, reference, keys[5]))


def best(losses: dict[float, float]) -> float:
    """The learning rate with the lowest loss."""
    return min(losses, key=lambda rate: losses[rate])


def check(config: ConfigDict) -> None:
    """ValueError for an unknown method, steps out of order, or an invalid task."""
    make_task(config, jax.random.key(config.seed))
    teaching = config.teaching
    if not teaching.methods or not teaching.rates:
        raise ValueError("teaching.methods and teaching.rates must not be empty.")
    for method in teaching.methods:
        if method not in training.METHODS:
            names = ", ".join(training.METHODS)
            raise ValueError(f"Unknown method {method!r}; expected one of {names}.")
    steps = tuple(teaching.steps)
    if len(steps) < 2 or steps[0] != 0 or list(steps) != sorted(set(steps)):
        raise ValueError(f"teaching.steps must increase from 0, not {steps}.")
    if teaching.reference_step not in steps[1:]:
        raise ValueError(
            f"teaching.reference_step must be one of {steps[1:]}, not "
            f"{teaching.reference_step}."
        )


def num_steps(config: ConfigDict) -> int:
    """The number of training steps of `run`, pretraining included."""
    teaching = config.teaching
    per_method = len(teaching.rates) * teaching.reference_step + teaching.steps[-1]
    return config.pretraining.steps + len(teaching.methods) * per_method


def _pretrained(
    config: ConfigDict, task: Task, keys: tuple[Key, Key], on_steps: OnSteps
) -> Params:
    """The network trained on its conditions, V* a copy of the class."""
    settings, mixtures = config.pretraining, tuple(task.mixtures.values())
    params = init_network(keys[0], conditions=len(mixtures), **config.network)
    state = training.start(params, training.METHODS["dreambooth"])
    for i in range(_ROUNDS):
        before, until = int(state.step), settings.steps * (i + 1) // _ROUNDS
        state = training.pretrain(
            *(state, params, mixtures, keys[1], until),
            rate=settings.learning_rate,
            steps=settings.steps,
            batch=settings.batch,
        )
        on_steps(int(state.step) - before)
    params = overwrite(params, state.theta)
    return with_concept(params, task.number(task.class_word))

"""A toy's task: conditions with their peaks, a class, and lines below its peaks."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from experiments.toy.peaks import Peaks, Points, below, draw, peaks
from personax.core.tree import nearest
from personax.core.typing import Key


class Task(NamedTuple):
    """The conditions of the plane, and the concept V* to train for one of them."""

    mixtures: dict[str, Peaks]  # by condition, in the network's order
    class_word: str  # the condition that V* starts as
    lines: Peaks  # one below every peak of the class
    trained: Peaks  # the lines that have examples
    examples: Points

    @property
    def others(self) -> list[str]:
        """The conditions without the class: the concepts that should not change."""
        return [name for name in self.mixtures if name != self.class_word]

    def number(self, name: str) -> int:
        """The network's index of a condition."""
        return list(self.mixtures).index(name)

    @property
    def concept(self) -> int:
        """The network's index of V*."""
        return len(self.mixtures)


def make_task(config: ConfigDict, key: Key) -> Task:
    """The task of a toy config; equally many examples of each line are drawn by `key`.

    Raises ValueError for a class that is not a condition, an invalid place, no
    examples, or a single condition.
    """
    mixtures = {
        name: peaks(centres, (config.scale, config.scale))
        for name, centres in config.conditions.items()
    }
    lesson = config.lesson
    if lesson.class_word not in mixtures:
        near = nearest(lesson.class_word, mixtures)
        raise ValueError(f"Unknown condition {lesson.class_word!r}. Nearest: {near}.")
    if len(mixtures) < 2:
        raise ValueError("Overfitting is measured on other conditions: need two.")
    lines = below(mixtures[lesson.class_word], lesson.drop, lesson.line)
    number = len(lines.centres)
    invalid = [place for place in lesson.places if not 0 <= place < number]
    if invalid or not lesson.places:
        raise ValueError(
            f"lesson.places must index some of the {number} peaks of "
            f"{lesson.class_word!r}, 0 to {number - 1}, not {tuple(lesson.places)}."
        )
    if lesson.shots < 1:
        raise ValueError(f"lesson.shots must be at least 1, not {lesson.shots}.")
    at = jnp.asarray(lesson.places)
    trained = Peaks(lines.centres[at], lines.scales[at])
    examples = [
        draw(each, Peaks(centre[None], scale[None]), lesson.shots)
        for each, centre, scale in zip(
            jax.random.split(key, len(at)), *trained, strict=True
        )
    ]
    return Task(mixtures, lesson.class_word, lines, trained, jnp.concatenate(examples))


def draw_conditions(
    key: Key, mixtures: tuple[Peaks, ...], number: int
) -> tuple[Float[Array, "b 2"], Int[Array, " b"]]:
    """Draws without noise and their conditions, which are equally likely."""
    which, where = jax.random.split(key)
    condition = jax.random.randint(which, (number,), 0, len(mixtures))
    keys = jax.random.split(where, len(mixtures))
    draws = jnp.stack(
        [
            draw(each, mixture, number)
            for each, mixture in zip(keys, mixtures, strict=True)
        ]
    )
    return draws[condition, jnp.arange(number)], condition

"""What a toy run teaches: conditions with their peaks, a class, lines beneath it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int
from ml_collections import ConfigDict

from experiments.toy.peaks import Peaks, Points, beneath, draw, peaks
from personax.core.tree import nearest
from personax.core.typing import Key


class Lesson(NamedTuple):
    """The plane's words, and the concept V* that is taught of one of them."""

    mixtures: dict[str, Peaks]  # of every condition, in the network's order
    class_word: str  # the condition that V* starts as
    wanted: Peaks  # a line beneath every peak of the class
    taught: Peaks  # those of them that the examples are of
    shots: Points  # the examples

    @property
    def others(self) -> list[str]:
        """The conditions that V* is not of: the non-customised concepts."""
        return [name for name in self.mixtures if name != self.class_word]

    def number(self, name: str) -> int:
        """How the network counts a condition."""
        return list(self.mixtures).index(name)

    @property
    def concept(self) -> int:
        """How the network counts V*."""
        return len(self.mixtures)


def make_lesson(config: ConfigDict, key: Key) -> Lesson:
    """The lesson of a toy config; `shots` are drawn by `key`, as many of every line.

    Raises ValueError for a class that is no condition, a place that the class does not
    have, no examples, and no other condition.
    """
    mixtures = {
        name: peaks(centres, (config.scale, config.scale))
        for name, centres in config.conditions.items()
    }
    lesson = config.lesson
    if lesson.class_word not in mixtures:
        near = nearest(lesson.class_word, mixtures)
        raise ValueError(f"No condition {lesson.class_word!r}. Nearest: {near}.")
    if len(mixtures) < 2:
        raise ValueError("Overfitting shows on other conditions: give two or more.")
    wanted = beneath(mixtures[lesson.class_word], lesson.drop, lesson.line)
    known = len(wanted.centres)
    strange = [place for place in lesson.places if not 0 <= place < known]
    if strange or not lesson.places:
        raise ValueError(
            f"lesson.places must name some of the {known} peaks of "
            f"{lesson.class_word!r} by 0 to {known - 1}, not {tuple(lesson.places)}."
        )
    if lesson.shots < 1:
        raise ValueError(f"lesson.shots must be at least 1, not {lesson.shots}.")
    at = jnp.asarray(lesson.places)
    taught = Peaks(wanted.centres[at], wanted.scales[at])
    shots = [
        draw(each, Peaks(centre[None], scale[None]), lesson.shots)
        for each, centre, scale in zip(
            jax.random.split(key, len(at)), *taught, strict=True
        )
    ]
    return Lesson(mixtures, lesson.class_word, wanted, taught, jnp.concatenate(shots))


def draw_of_all(
    key: Key, mixtures: tuple[Peaks, ...], number: int
) -> tuple[Float[Array, "b 2"], Int[Array, " b"]]:
    """Draws without noise and the conditions they are of, every one as likely."""
    which, where = jax.random.split(key)
    condition = jax.random.randint(which, (number,), 0, len(mixtures))
    keys = jax.random.split(where, len(mixtures))
    of_each = jnp.stack(
        [
            draw(each, mixture, number)
            for each, mixture in zip(keys, mixtures, strict=True)
        ]
    )
    return of_each[condition, jnp.arange(number)], condition

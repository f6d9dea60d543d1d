"""What a method answered a question with, and how a judge's numbers are summed up."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from personax.concepts.bind import Model
from personax.core.images import Pixels
from personax.evaluation.results import Measured
from personax.metrics.bootstrap import Statistic, standard_error


class Answer(NamedTuple):
    """One method's pictures of one subject or pair, and what they are held against.

    Rows of pictures are in the order of `texts`, images of a prompt next to each other.
    """

    pixels: tuple[Pixels, ...]
    texts: tuple[str, ...]  # the prompt of each, class words in the subjects' places
    templates: tuple[str, ...]  # and as the protocol has it
    class_words: tuple[str, ...]
    targets: tuple[Sequence[Pixels], ...]  # the pictures of each subject
    latents: Float[np.ndarray, "n _ _ _"] | None = None
    before: Float[np.ndarray, "n _ _ _"] | None = (
        None  # the base's, asked for the class
    )
    bare: tuple[Pixels, ...] = ()  # the class without the concept, by the model
    bare_before: tuple[Pixels, ...] = ()  # by the base
    model: Model | None = None  # that the concept is bound to


# What can be said of an answer, {column: measured}.
Judge = Callable[[Answer], dict[str, Measured]]


def measured(
    found: Mapping[str, Shaped[np.ndarray, " _"]],
    groups: Sequence[Hashable],
    rounds: int,
    statistic: Statistic = np.mean,
) -> dict[str, Measured]:
    """{name: the statistic of its values}, its error by resampling whole groups.

    Pictures of one prompt are a group. Without a second group there is no error.
    """
    out = {}
    for name, values in found.items():
        error = None
        if len(set(groups)) > 1:
            error = standard_error(
                values, statistic, rounds=rounds, groups=list(groups)
            )
        out[name] = Measured(float(statistic(values)), error, len(values))
    return out

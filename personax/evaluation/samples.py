"""The pictures that metrics score, and how a metric's values are averaged."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from personax.concepts.bind import Model
from personax.core.images import Pixels
from personax.evaluation.results import Measurement
from personax.metrics.bootstrap import Statistic, standard_error


class Generations(NamedTuple):
    """One model's pictures of a subject or a pair, and their references.

    `pixels`, `texts` and `templates` have one entry per picture; pictures of one prompt
    are adjacent.
    """

    pixels: tuple[Pixels, ...]
    texts: tuple[str, ...]  # prompts, with class words for the subjects
    templates: tuple[str, ...]  # prompts, with {} or {0} and {1} for the subjects
    class_words: tuple[str, ...]
    targets: tuple[Sequence[Pixels], ...]  # the training pictures of each subject
    latents: Float[np.ndarray, "n _ _ _"] | None = None  # of `pixels`
    # The base's latents for `texts`, at the same seeds.
    before: Float[np.ndarray, "n _ _ _"] | None = None
    bare: tuple[Pixels, ...] = ()  # the model's for the first texts: no concept in them
    bare_before: tuple[Pixels, ...] = ()  # the base's for the same texts
    model: Model | None = None  # with the concepts bound


# Scores generations: {column key: measurement}, without what does not apply to them.
Metric = Callable[[Generations], dict[str, Measurement]]


def summarize(
    values: Mapping[str, Shaped[np.ndarray, " _"]],
    groups: Sequence[Hashable],
    rounds: int,
    statistic: Statistic = np.mean,
) -> dict[str, Measurement]:
    """{name: the statistic of its values}, with a bootstrap error over groups.

    `groups` holds the prompt of each value: pictures of one prompt are resampled
    together. The error is None for a single group.
    """
    measurements = {}
    for name, x in values.items():
        error = None
        if len(set(groups)) > 1:
            error = standard_error(x, statistic, rounds=rounds, groups=list(groups))
        measurements[name] = Measurement(float(statistic(x)), error, len(x))
    return measurements

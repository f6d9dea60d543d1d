"""Attribute accuracy: the share of pictures that show an expected attribute."""

from collections.abc import Collection, Sequence

import numpy as np
from jaxtyping import Int


def attribute_ratio(
    labels: Sequence[str | Collection[str]], expected: str | Sequence[str]
) -> Int[np.ndarray, " n"]:
    """1 for each picture whose labels include the expected word, else 0.

    The mean is the attribute ratio in [0, 1] of concept-centric personalisation (Cao et
    al. 2023), whose paper does not name its predictor. `labels` has one word per
    picture, or all words that apply to it; `expected` is one word, or one per picture.
    Raises ValueError for no pictures, and for another number of expected words.
    """
    if not len(labels):
        raise ValueError("An attribute ratio requires pictures.")
    words = [expected] * len(labels) if isinstance(expected, str) else list(expected)
    if len(words) != len(labels):
        raise ValueError(f"{len(words)} expected words for {len(labels)} pictures.")
    return np.array([_matches(*pair) for pair in zip(labels, words, strict=True)])


def _matches(label: str | Collection[str], word: str) -> int:
    # "hat" is a substring of "top-hat", but another word.
    return int(word == label if isinstance(label, str) else word in label)

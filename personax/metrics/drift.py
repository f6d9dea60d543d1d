"""Semantic drift: whether "a <v1> dog" still stands nearer to "a dog" than others do.

ClassDiffusion (Huang et al. 2024, sec. 3 and app. D) ranks a concept's phrase among
phrases with an adjective by its distance from the bare class, in the space of CLIP's
text encoder: each phrase's feature is the one at the end of its text.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, check_widths, checked

_WORDS = """
beautiful happy sad tall short bright dark big small young old fast slow warm cold
soft hard heavy light strong weak good bad rich poor thick thin expensive cheap
quiet loud clean dirty smart stupid interesting boring new old-fashioned safe
dangerous healthy sick easy difficult right wrong high low near far early late wet
dry busy free careful careless friendly unfriendly important unimportant famous
unknown excited calm serious funny tired energetic
"""
ADJECTIVES = tuple(_WORDS.split())


class Rank(NamedTuple):
    """1 is the nearest to the class; a mean over seeds may lie between two."""

    rank: float
    among: int  # the phrases and the special one


def phrases(class_word: str) -> tuple[str, ...]:
    """The paper's 71 adjectives before a class word: "a beautiful dog" and so on.

    The article is always "a". The paper speaks of 70 phrases and lists 71 adjectives:
    with the special one there are 72.

    >>> len(phrases("dog")), phrases("dog")[0]
    (71, 'a beautiful dog')
    """
    return tuple(f"a {adjective} {class_word}" for adjective in ADJECTIVES)


def rank_by_cosine(
    features: Features, special: Float[np.ndarray, " _"], plain: Float[np.ndarray, " _"]
) -> Rank:
    """Where the special phrase stands among the phrases by cosine with the bare class.

    In all dimensions and without chance, unlike the paper's `rank_by_tsne`. Equals
    share the better rank. Raises ValueError for no phrase, two widths, a feature that
    is not finite, and one that is 0.
    """
    rows = _rows(features, special, plain)
    lengths = np.linalg.norm(rows, axis=1)
    if not lengths.all():
        raise ValueError("A phrase whose feature is 0 has no direction.")
    cosines = rows @ rows[-1] / lengths
    return Rank(_place(-cosines[:-1]), len(features) + 1)


def rank_by_tsne(
    features: Features,
    special: Float[np.ndarray, " _"],
    plain: Float[np.ndarray, " _"],
    *,
    seeds: Sequence[int] = tuple(range(10)),
    perplexity: float = 30.0,
) -> Rank:
    """The mean over seeds of that rank by distance in a t-SNE of all to the plane.

    The paper names neither perplexity nor seed: the perplexity is scikit-learn's
    default, 30. The layout starts from random points, for from principal components,
    its other default, all seeds find the same; and the gradient is exact, for there are
    few points. Raises ValueError without scikit-learn or a seed, for no more points
    than the perplexity, for two widths, and for a feature that is not finite.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError(
            "t-SNE needs scikit-learn, which is not installed: "
            "pip install 'personax[evaluate]'."
        )
    rows = _rows(features, special, plain)
    if not seeds:
        raise ValueError("The mean over seeds needs a seed, and there is none.")
    if not 0 < perplexity < len(rows):
        raise ValueError(
            f"The perplexity {perplexity:g} is not between 0 and the number of points, "
            f"{len(rows)}."
        )
    options = {"perplexity": perplexity, "init": "random", "method": "exact"}
    places = []
    for seed in seeds:
        plane = TSNE(2, random_state=seed, **options).fit_transform(rows)
        places.append(_place(np.linalg.norm(plane[:-1] - plane[-1], axis=1)))
    return Rank(float(np.mean(places)), len(features) + 1)


def _rows(features: Features, special, plain) -> Float[np.ndarray, "_ _"]:
    """The phrases, the special one and the bare class, in float64."""
    x = checked(features, "A drift rank", rows="phrases")
    for each in (special, plain):
        check_widths(x.shape[1], len(each))
    ends = checked(np.stack([special, plain]), "A drift rank", rows="phrases")
    return np.concatenate([x, ends])


def _place(distances: Float[np.ndarray, " _"]) -> float:
    """1 and how many of the others are nearer than the last."""
    return float(1 + (distances[:-1] < distances[-1]).sum())

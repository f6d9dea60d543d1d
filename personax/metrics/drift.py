"""Semantic drift: the rank of "a <v1> dog" among phrases by distance from "a dog".

ClassDiffusion (Huang et al. 2024, sec. 3 and app. D) ranks a concept's phrase among
phrases with an adjective, in the space of CLIP's text encoder; the feature of a phrase
is the one at its end-of-text token.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from personax.metrics.features import Features, checked

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
    """1 is the closest to the class; a mean over seeds may be fractional."""

    rank: float
    among: int  # number of phrases, with the concept's


def phrases(class_word: str) -> tuple[str, ...]:
    """The paper's 71 adjectives before a class word, such as "a beautiful dog".

    The article is always "a". The paper mentions 70 phrases and lists 71 adjectives;
    with the concept's phrase there are 72.

    >>> len(phrases("dog")), phrases("dog")[0]
    (71, 'a beautiful dog')
    """
    return tuple(f"a {adjective} {class_word}" for adjective in ADJECTIVES)


def rank_by_cosine(
    features: Features, special: Float[np.ndarray, " _"], plain: Float[np.ndarray, " _"]
) -> Rank:
    """The rank of the concept's phrase by cosine with the class.

    Deterministic and in all dimensions, unlike the paper's `rank_by_tsne`. Equal
    cosines share the better rank. Raises ValueError for two widths and for a feature
    that is not finite.
    """
    rows = _rows(features, special, plain)
    cosines = rows @ rows[-1] / np.linalg.norm(rows, axis=1)
    return Rank(_rank(-cosines[:-1]), len(features) + 1)


def rank_by_tsne(
    features: Features,
    special: Float[np.ndarray, " _"],
    plain: Float[np.ndarray, " _"],
    *,
    seeds: Sequence[int],
) -> Rank:
    """The mean rank over seeds by distance in a two-dimensional t-SNE.

    The paper gives neither perplexity nor seed; the perplexity is scikit-learn's, 30.
    The initialisation is random, since all seeds give the same layout from principal
    components, and the gradient is exact, since there are few points.

    Raises ValueError without scikit-learn, unless there are more than 30 points, for
    two widths, and for a feature that is not finite.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise ValueError(
            "t-SNE requires scikit-learn: pip install 'personax[evaluate]'."
        )
    rows = _rows(features, special, plain)
    ranks = []
    for seed in seeds:
        layout = TSNE(2, random_state=seed, init="random", method="exact")
        plane = layout.fit_transform(rows)
        ranks.append(_rank(np.linalg.norm(plane[:-1] - plane[-1], axis=1)))
    return Rank(float(np.mean(ranks)), len(features) + 1)


def _rows(features: Features, special, plain) -> Float[np.ndarray, "_ _"]:
    """The phrases, the concept's phrase and the class, in float64."""
    rows = np.concatenate([features, [special], [plain]])
    return checked(rows, "A drift rank", rows="phrases")


def _rank(distances: Float[np.ndarray, " _"]) -> float:
    """1 plus the number of others that are closer than the last."""
    return float(1 + (distances[:-1] < distances[-1]).sum())

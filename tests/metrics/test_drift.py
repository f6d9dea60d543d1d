"""Ranks of phrases whose places are known, and scipy's ranks of cosine distances."""

import functools
import sys

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata

from personax.metrics.drift import (
    ADJECTIVES,
    Rank,
    phrases,
    rank_by_cosine,
    rank_by_tsne,
)

RNG = np.random.default_rng(0)
PLAIN = RNG.normal(size=16)
# Nearer and further from the bare class, 39 phrases.
FEATURES = PLAIN + np.linspace(0.1, 3, 39)[:, None] * RNG.normal(size=(39, 16))


def test_there_are_71_adjectives_all_different():
    assert len(ADJECTIVES) == len(set(ADJECTIVES)) == 71
    assert ADJECTIVES[0] == "beautiful"
    assert ADJECTIVES[-1] == "energetic"
    assert "a old-fashioned dog" in phrases("dog")


def test_the_cosine_rank_is_scipys():
    for seed in range(20):
        special = PLAIN + np.random.default_rng(seed).normal(0, seed / 10, 16)
        points = np.concatenate([FEATURES, special[None]])
        distances = cdist(points, PLAIN[None], "cosine")[:, 0]
        expected = rankdata(distances, method="min")[-1]
        assert rank_by_cosine(FEATURES, special, PLAIN) == (expected, 40)


@pytest.mark.parametrize(
    "rank", [rank_by_cosine, functools.partial(rank_by_tsne, seeds=(0, 1))]
)
def test_the_class_itself_is_nearest_and_another_thing_is_last(rank):
    near = rank(FEATURES, PLAIN + 1e-3, PLAIN)
    far = rank(FEATURES, PLAIN + 30 * RNG.normal(size=16), PLAIN)
    assert near.rank < 3
    assert far.rank > 20
    assert near.among == far.among == 40


def test_equals_share_the_better_rank():
    features = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    assert rank_by_cosine(features, features[1], features[0]) == (2, 4)
    assert rank_by_cosine(features[:1], features[0], features[0]) == (1, 2)


def test_the_plane_is_laid_out_by_the_seeds_which_are_averaged():
    special = PLAIN + RNG.normal(size=16)
    alone = [rank_by_tsne(FEATURES, special, PLAIN, seeds=[seed]) for seed in range(3)]
    assert len({each.rank for each in alone}) > 1
    both = rank_by_tsne(FEATURES, special, PLAIN, seeds=range(3))
    assert both == Rank(np.mean([each.rank for each in alone]), 40)


def test_what_has_no_rank_is_said_in_one_sentence(monkeypatch):
    bad = FEATURES.copy()
    bad[4, 2] = np.nan
    by_tsne = functools.partial(rank_by_tsne, seeds=(0,))
    for rank in (rank_by_cosine, by_tsne):
        with pytest.raises(ValueError, match=r"1 of 41 phrases are not .* number 4"):
            rank(bad, PLAIN, PLAIN)
        with pytest.raises(ValueError, match=r"1 of 41 phrases are not .* number 39"):
            rank(FEATURES, bad[4], PLAIN)
        with pytest.raises(ValueError, match="must match exactly"):
            rank(FEATURES, PLAIN[1:], PLAIN)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ValueError, match=r"pip install 'personax\[evaluate\]'"):
        by_tsne(FEATURES, PLAIN, PLAIN)

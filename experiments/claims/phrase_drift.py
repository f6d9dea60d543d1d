"""Distance of a concept's phrase from its class in the text encoder's space."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from experiments.claims.claim import Point
from personax.concepts.bind import Model
from personax.diffusion.denoiser import encode
from personax.metrics import drift
from personax.networks.clip_text import pool_text
from personax.networks.tokenizer import tokenize


def phrase_drift(plain: Model, model: Model, seeds: Sequence[int] = ()) -> Point:
    """{cosine_distance, rank_cosine, rank_tsne, among} of "a <v1> dog" from "a dog".

    Ranks are among the 71 adjectives of Huang et al. 2024 (app. D), 1 the nearest.
    `rank_tsne` is the mean over t-SNE `seeds`, omitted without any.
    """
    concept = model.concepts[0]
    texts = [*drift.phrases(concept.class_word), f"a {concept.class_word}"]
    *others, bare = _features(plain, texts)
    special = _features(model, [f"a {concept.phrase}"])[0]
    rank = drift.rank_by_cosine(np.stack(others), special, bare)
    cosine = special @ bare / np.linalg.norm(special) / np.linalg.norm(bare)
    point = {
        "cosine_distance": float(1 - cosine),
        "rank_cosine": rank.rank,
        "among": rank.among,
    }
    if seeds:
        by_tsne = drift.rank_by_tsne(np.stack(others), special, bare, seeds=seeds)
        point["rank_tsne"] = by_tsne.rank
    return point


def _features(model: Model, texts: Sequence[str]) -> np.ndarray:
    """The text encoder's state at each text's end token."""
    ids = jnp.asarray(tokenize(model.tokenizer, list(texts)))
    states = _encode(model.denoiser, ids).text
    return np.asarray(pool_text(model.denoiser.spec.text_encoder, ids, states))


_encode = jax.jit(encode)

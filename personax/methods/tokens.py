"""Theta in the words: new rows below the text encoder's embedding table."""

from collections.abc import Sequence

import jax.numpy as jnp

from personax.denoiser import Denoiser
from personax.methods.base import Concept, Part
from personax.tree import flat, overwrite
from personax.typing import Key, Params, Theta

TABLE = "text_encoder/text_model/embeddings/token_embedding/embedding"


def tokens() -> Part:
    """One row per placeholder id, started from the row of its initial token.

    The rows are concatenated to the table, so the words that are there already get
    neither gradient nor weight decay.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        table = flat(params)[TABLE]
        rows = [row for concept in concepts for row in concept.initial]
        if not rows:
            return {}
        return {"embedding": jnp.asarray(table)[jnp.array(rows)].astype(jnp.float32)}

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        if not theta:
            return denoiser
        table = flat(denoiser.params)[TABLE]
        rows = theta["embedding"].astype(table.dtype)
        table = jnp.concatenate([table, rows])
        params = overwrite(denoiser.params, {TABLE: table}, resize=True)
        return denoiser.replace(params=params)

    return Part(init, bind)

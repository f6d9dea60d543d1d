"""A part that appends trained rows to the text encoder's embedding table."""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.tree import flat, overwrite
from personax.core.typing import Key, Params, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods.parts.base import Concept, Part

TABLE = "text_encoder/text_model/embeddings/token_embedding/embedding"


def tokens() -> Part:
    """One row per placeholder id, initialised with the row of its initial token.

    The rows are concatenated to the table, so that existing rows receive neither
    gradient nor weight decay; diffusers' scripts decay every row.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        initial = [row for concept in concepts for row in concept.initial]
        if not initial:
            return {}
        table = jnp.asarray(flat(params)[TABLE]).astype(jnp.float32)
        rows = [
            _draw_row(jax.random.fold_in(key, i), table) if row is None else table[row]
            for i, row in enumerate(initial)
        ]
        return {"embedding": jnp.stack(rows)}

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        if not theta:
            return denoiser
        table = flat(denoiser.params)[TABLE]
        rows = theta["embedding"].astype(table.dtype)
        table = jnp.concatenate([table, rows])
        params = overwrite(denoiser.params, {TABLE: table}, resize=True)
        return dataclasses.replace(denoiser, params=params)

    return Part(init, bind, adds_tokens=True)


def _draw_row(key: Key, table: Float[Array, "v d"]) -> Float[Array, " d"]:
    """A sample of N(mean, std) of the vocabulary: an ablation of Kumari et al. 2023."""
    return table.mean(0) + table.std(0) * jax.random.normal(key, table.shape[1:])

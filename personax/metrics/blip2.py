"""BLIP-2's image-text scores: the ITC cosine and the ITM probability."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.images import Pixels
from personax.core.typing import Ids, Images, Params
from personax.loading.blip2 import Blip2
from personax.metrics.blip import Scores, scores, unit
from personax.networks.blip import Mask
from personax.networks.blip2 import (
    Blip2Config,
    image_features,
    match_logits,
    text_features,
)


def itc(blip2: Blip2, pixels: Sequence[Pixels], prompts: Sequence[str]) -> Scores:
    """The largest cosine of a picture's queries with its prompt, float32.

    Li et al. 2023, sec. 3.1. Pictures are uint8 of any size. Raises ValueError unless
    there are as many pictures as prompts, and for a prompt that is too long or has an
    unknown word id.
    """
    return scores(_itc, blip2, blip2.config.qformer_config, pixels, prompts)


def itm(blip2: Blip2, pixels: Sequence[Pixels], prompts: Sequence[str]) -> Scores:
    """The ITM probability that each picture matches its prompt, float32.

    Raises what `itc` raises.
    """
    return scores(_itm, blip2, blip2.config.qformer_config, pixels, prompts)


@jax.jit(static_argnames="config")
def _itc(
    params: Params, config: Blip2Config, images: Images, ids: Ids, mask: Mask
) -> Float[Array, " b"]:
    texts = text_features(params, config, ids, mask)
    queries = image_features(params, config, images)
    return jnp.einsum("bqd,bd->bq", unit(queries), unit(texts)).max(axis=1)


@jax.jit(static_argnames="config")
def _itm(
    params: Params, config: Blip2Config, images: Images, ids: Ids, mask: Mask
) -> Float[Array, " b"]:
    logits = match_logits(params, config, images, ids, mask)
    return jax.nn.softmax(logits, axis=-1)[:, 1]

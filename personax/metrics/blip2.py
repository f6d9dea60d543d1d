"""How well a BLIP-2 finds that a text fits a picture: the ITC cosine and ITM odds."""

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
    """The largest cosine of a query's feature of each picture and its prompt, float32.

    Li et al. 2023, Sec. 3.1. Pictures are uint8 of any size, prompts are read as they
    are. Raises ValueError where there are not as many pictures as prompts, and for a
    prompt that the Q-Former cannot read.
    """
    return scores(_itc, blip2, blip2.config.qformer_config, pixels, prompts)


def itm(blip2: Blip2, pixels: Sequence[Pixels], prompts: Sequence[str]) -> Scores:
    """The probability that each picture fits the prompt beside it, in [0, 1], float32.

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

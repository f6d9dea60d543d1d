"""BLIP's and BLIP-2's image-text scores: the ITC cosine and the ITM probability.

ClassDiffusion's release uses the ITC cosine of BLIP ViT-L for the paper's BLIP2-T.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from PIL import Image
from transformers import BertTokenizer

from personax.core.images import Pixels
from personax.core.typing import Ids, Images, Params
from personax.loading.blip import Blip
from personax.loading.blip2 import Blip2
from personax.metrics.features import normalized
from personax.networks import blip as blip_network
from personax.networks import blip2 as blip2_network
from personax.networks.blip import BertConfig, BlipConfig, Mask
from personax.networks.blip2 import Blip2Config

Scores = Float[np.ndarray, " n"]

_BATCH = 32
_MULTIPLE = 16  # texts are padded to multiples, to compile few lengths


def itc(
    model: Blip | Blip2, pixels: Sequence[Pixels], prompts: Sequence[str]
) -> Scores:
    """The ITC cosine of each picture and its prompt, in [-1, 1], float32.

    Of BLIP-2 the largest cosine of a picture's queries (Li et al. 2023, sec. 3.1).
    Pictures are uint8 of any size, one per prompt. BLIP's release computes in float16.
    Raises ValueError for a prompt that is too long or has an unknown word id.
    """
    return _scores(_itc, model, pixels, prompts)


def itm(
    model: Blip | Blip2, pixels: Sequence[Pixels], prompts: Sequence[str]
) -> Scores:
    """The ITM probability that each picture matches its prompt, float32.

    Raises what `itc` raises.
    """
    return _scores(_itm, model, pixels, prompts)


def _scores(
    score: Callable[..., jax.Array],
    model: Blip | Blip2,
    pixels: Sequence[Pixels],
    prompts: Sequence[str],
) -> Scores:
    """`score` of each picture and its prompt, in batches."""
    config = model.config
    is_blip2 = isinstance(config, Blip2Config)
    text = config.qformer_config if is_blip2 else config.text_config
    ids, mask = map(jnp.asarray, tokens(model.tokenizer, text, prompts))
    parts = []
    for i in range(0, len(pixels), _BATCH):
        part = slice(i, i + _BATCH)
        images = jnp.asarray(prepared(model, pixels[part]))
        parts.append(score(model.params, config, images, ids[part], mask[part]))
    return np.concatenate(parts)


def prepared(
    model: Blip | Blip2, pixels: Sequence[Pixels]
) -> Float[np.ndarray, "n side side 3"]:
    """Input of the vision tower, as transformers' BlipImageProcessor computes it.

    Pictures of any shape are resized to the tower's square (bicubic).
    """
    side = model.config.vision_config.image_size
    bicubic = Image.Resampling.BICUBIC
    resized = (Image.fromarray(each).resize((side, side), bicubic) for each in pixels)
    return normalized(list(map(np.asarray, resized)), model)


def tokens(
    tokenizer: BertTokenizer, config: BertConfig, prompts: Sequence[str]
) -> tuple[Int[np.ndarray, "b n"], Bool[np.ndarray, "b n"]]:
    """(token ids of each prompt, mask of those that are not padding).

    Raises ValueError for a prompt with more tokens than positions, and for a word id
    without an embedding.
    """
    encoded = [tokenizer(prompt)["input_ids"] for prompt in prompts]
    longest = max(map(len, encoded))
    if longest > config.max_position_embeddings:
        raise ValueError(
            f"A prompt has {longest} tokens; the text encoder has "
            f"{config.max_position_embeddings} positions."
        )
    padded = -(-longest // _MULTIPLE) * _MULTIPLE
    length = min(padded, config.max_position_embeddings)
    ids = np.full((len(prompts), length), tokenizer.pad_token_id, np.int32)
    for row, each in zip(ids, encoded, strict=True):
        row[: len(each)] = each
    if ids.max() >= config.vocab_size:
        worst = prompts[int(ids.max(axis=1).argmax())]
        raise ValueError(
            f"The prompt {worst!r} has a word with id {ids.max()}, beyond the text "
            f"encoder's {config.vocab_size} words."
        )
    lengths = np.array([len(each) for each in encoded])
    return ids, np.arange(length)[None] < lengths[:, None]


def unit(x: Float[Array, "*rest d"]) -> Float[Array, "*rest d"]:
    """`x` normalised to unit length along the last axis."""
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def _network(config: BlipConfig | Blip2Config) -> Any:
    return blip2_network if isinstance(config, Blip2Config) else blip_network


@jax.jit(static_argnames="config")
def _itc(
    params: Params,
    config: BlipConfig | Blip2Config,
    images: Images,
    ids: Ids,
    mask: Mask,
) -> Float[Array, " b"]:
    texts = unit(_network(config).text_features(params, config, ids, mask))
    pictures = unit(_network(config).image_features(params, config, images))
    queries = pictures.reshape(len(texts), -1, texts.shape[-1])
    return (queries * texts[:, None]).sum(axis=-1).max(axis=1)


@jax.jit(static_argnames="config")
def _itm(
    params: Params,
    config: BlipConfig | Blip2Config,
    images: Images,
    ids: Ids,
    mask: Mask,
) -> Float[Array, " b"]:
    logits = _network(config).match_logits(params, config, images, ids, mask)
    return jax.nn.softmax(logits, axis=-1)[:, 1]

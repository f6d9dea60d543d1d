"""CLIP's vision tower: a transformer over the patches and one class token."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Images, Key, Params
from personax.networks.clip_text import (
    NEUTRAL,
    UNUSED,
    TransformerConfig,
    init_embedding,
    init_transformer,
    transformer,
)
from personax.networks.compute import Compute
from personax.networks.config import read_config
from personax.networks.layers import conv, init_conv, init_norm, keys_for, layer_norm

# transformers' defaults, where they differ from ViT-L/14's values.
_ABSENT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "patch_size": 32,
}


@dataclasses.dataclass(frozen=True)
class CLIPVisionConfig(TransformerConfig):
    """transformers' CLIPVisionModel; the defaults are ViT-L/14's."""

    hidden_size: int = 1024
    intermediate_size: int = 4096
    num_hidden_layers: int = 24
    num_attention_heads: int = 16
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    image_size: int = 224
    patch_size: int = 14
    num_channels: int = 3

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "CLIPVisionConfig":
        """The config of a published config.json."""
        values = {**_ABSENT, **values}
        return read_config(
            cls, values, neutral=NEUTRAL, ignored=UNUSED, name="CLIPVisionModel"
        )


def clip_vision(
    params: Params,
    config: CLIPVisionConfig,
    images: Images,
    *,
    compute: Compute = Compute(),
) -> Float[Array, "b n d"]:
    """The states of the class token, then of each patch row by row, float32.

    `images` are `image_size` square and normalised by the preprocessor's mean and
    deviation. The states are not normed; `pool_vision` norms the one it takes.
    """
    side = config.image_size
    if images.shape[1:3] != (side, side):
        raise ValueError(
            f"The images are {images.shape[1]} x {images.shape[2]}, the vision tower "
            f"takes {side} x {side}."
        )
    model = params["vision_model"]
    x = _embed(model["embeddings"], compute.cast(images), config, compute)
    x = layer_norm(model["pre_layrnorm"], x, eps=config.layer_norm_eps)
    depth = config.num_hidden_layers
    x = transformer(
        model["encoder"], config, x, depth=depth, causal=False, compute=compute
    )
    return x.astype(jnp.float32)


def pool_vision(
    params: Params, config: CLIPVisionConfig, states: Float[Array, "b n d"]
) -> Float[Array, "b d"]:
    """The class token's state after the last norm."""
    norm = params["vision_model"]["post_layernorm"]
    return layer_norm(norm, states[:, 0], eps=config.layer_norm_eps)


def init_clip_vision(key: Key, config: CLIPVisionConfig) -> Params:
    """{"vision_model": …}: embeddings of deviation 0.02, the rest as torch's layers."""
    keys = keys_for(key, "class", "patch", "positions", "encoder")
    width = config.hidden_size
    patch = init_conv(keys["patch"], config.patch_size, config.num_channels, width)
    positions = (config.image_size // config.patch_size) ** 2 + 1
    embeddings = {
        "class_embedding": 0.02 * jax.random.normal(keys["class"], (width,)),
        "patch_embedding": {"kernel": patch["kernel"]},
        "position_embedding": init_embedding(keys["positions"], positions, width),
    }
    model = {
        "embeddings": embeddings,
        "pre_layrnorm": init_norm(width),  # the published name
        "encoder": init_transformer(keys["encoder"], config),
        "post_layernorm": init_norm(width),
    }
    return {"vision_model": model}


def _embed(
    params: Params, images: Images, config: CLIPVisionConfig, compute: Compute
) -> Float[Array, "b n d"]:
    patches = conv(
        params["patch_embedding"],
        images,
        stride=config.patch_size,
        padding=0,
        compute=compute,
    )
    b, h, w, d = patches.shape
    first = compute.cast(params["class_embedding"])[None, None]
    tokens = [jnp.broadcast_to(first, (b, 1, d)), patches.reshape(b, h * w, d)]
    positions = compute.cast(params["position_embedding"]["embedding"])
    return jnp.concatenate(tokens, axis=1) + positions[None]

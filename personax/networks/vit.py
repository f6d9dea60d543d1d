"""A vision transformer over patches and a class token, normed at its end.

It is ViT-S/16 of DINO (Caron et al. 2021) and the vision tower of BLIP and BLIP-2.
Layers and parameter names are CLIP's; `personax.loading` maps the published names.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Images, Key, Params
from personax.networks.clip_text import (
    UNUSED,
    TransformerConfig,
    init_transformer,
    transformer,
)
from personax.networks.compute import Compute
from personax.networks.config import read_config
from personax.networks.layers import conv, init_conv, init_norm, keys_for, layer_norm

# transformers' defaults for ViTModel, where they differ from DINO's values.
_ABSENT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}

# Dropout applies in training only; pooler and decoder come after the states.
_UNUSED = UNUSED | {
    *("attention_dropout", "attention_probs_dropout_prob", "dropout"),
    *("hidden_dropout_prob", "encoder_stride", "pooler_act", "pooler_output_size"),
    "eos_token_id",
}
_NEUTRAL = {"qkv_bias": (True,), "pruned_heads": ({},)}


@dataclasses.dataclass(frozen=True)
class ViTConfig(TransformerConfig):
    """transformers' ViTModel; the defaults are those of DINO ViT-S/16."""

    hidden_size: int = 384
    intermediate_size: int = 1536
    num_hidden_layers: int = 12
    num_attention_heads: int = 6
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-12
    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3

    @classmethod
    def from_json(
        cls,
        values: Mapping[str, Any],
        *,
        absent: Mapping[str, Any] = _ABSENT,
        name: str = "ViTModel",
    ) -> "ViTConfig":
        """The config of a published config.json.

        `absent` holds transformers' defaults for the model called `name`. Raises
        ValueError for options that are not computed here.
        """
        values = {**absent, **values}
        return read_config(cls, values, neutral=_NEUTRAL, ignored=_UNUSED, name=name)


def vit(
    params: Params, config: ViTConfig, images: Images, *, compute: Compute = Compute()
) -> Float[Array, "b n d"]:
    """The normed states of the class token, then of each patch row by row, float32.

    `images` are `image_size` square and normalised by the preprocessor's mean and
    deviation; positions are not interpolated to other sizes, which raise ValueError.
    """
    side = config.image_size
    if images.shape[1:3] != (side, side):
        raise ValueError(
            f"The images are {images.shape[1]} x {images.shape[2]}, the vision "
            f"transformer takes {side} x {side}."
        )
    x = _embed(params["embeddings"], compute.cast(images), config, compute)
    depth = config.num_hidden_layers
    x = transformer(
        params["encoder"], config, x, depth=depth, causal=False, compute=compute
    )
    x = layer_norm(params["post_layernorm"], x, eps=config.layer_norm_eps)
    return x.astype(jnp.float32)


def init_vit(key: Key, config: ViTConfig) -> Params:
    """Embeddings normal with deviation 0.02, the rest as torch's layers."""
    keys = keys_for(key, "class", "patch", "positions", "encoder")
    width = config.hidden_size
    positions = (config.image_size // config.patch_size) ** 2 + 1
    embeddings = {
        "class_embedding": 0.02 * jax.random.normal(keys["class"], (1, 1, width)),
        "patch_embedding": init_conv(
            keys["patch"], config.patch_size, config.num_channels, width
        ),
        "position_embedding": 0.02
        * jax.random.normal(keys["positions"], (1, positions, width)),
    }
    return {
        "embeddings": embeddings,
        "encoder": init_transformer(keys["encoder"], config),
        "post_layernorm": init_norm(width),
    }


def _embed(
    params: Params, images: Images, config: ViTConfig, compute: Compute
) -> Float[Array, "b n d"]:
    patches = conv(
        params["patch_embedding"],
        images,
        stride=config.patch_size,
        padding=0,
        compute=compute,
    )
    b, h, w, d = patches.shape
    first = jnp.broadcast_to(compute.cast(params["class_embedding"]), (b, 1, d))
    tokens = jnp.concatenate([first, patches.reshape(b, h * w, d)], axis=1)
    return tokens + compute.cast(params["position_embedding"])

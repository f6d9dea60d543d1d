"""The SD 1.x/2.x UNet as a function: diffusers' UNet2DConditionModel, NHWC."""

import dataclasses
import functools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.tree import flat
from personax.core.typing import AttentionMaps, Key, Latents, Params, Text, TextOf
from personax.networks.attention import Context, Control
from personax.networks.compute import Compute
from personax.networks.config import read_config
from personax.networks.encoder import (
    DOWN,
    IGNORED,
    NEUTRAL,
    EncoderConfig,
    Layers,
    encode,
    indices,
    init_block,
    init_encoder,
    make_layers,
    skip_channels,
)
from personax.networks.layers import (
    conv,
    group_norm,
    init_conv,
    init_dense,
    init_norm,
    keys_for,
    time_embedding,
    upsample,
)

_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}

_NEUTRAL = {
    **NEUTRAL,
    "attention_type": ("default",),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "dropout": (0.0, 0),
    "resnet_out_scale_factor": (1.0, 1),
    "time_embedding_type": ("positional",),
}


@dataclasses.dataclass(frozen=True)
class UNetConfig(EncoderConfig):
    """The published config.json's fields; the defaults are Stable Diffusion 1.5's."""

    out_channels: int = 4
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    sample_size: int | tuple[int, int] | None = 64  # latent side it was trained at
    time_cond_proj_dim: int | None = None  # width of a distilled UNet's guidance

    def __post_init__(self):
        super().__post_init__()
        self.check_types("up_block_types", _UP)
        self.check_heads([_UP[kind] for kind in reversed(self.up_block_types)])

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "UNetConfig":
        """The config of a published unet/config.json; see `read_config` for errors."""
        return read_config(
            cls, values, neutral=_NEUTRAL, ignored=IGNORED, name="The UNet"
        )

    @property
    def factor(self) -> int:
        """The latents' side over the deepest block's."""
        return 2 ** (len(self.block_out_channels) - 1)


class Residuals(NamedTuple):
    """A ControlNet's outputs, added to the skip connections and the mid block."""

    down: tuple[Array, ...]  # "b h w c", each of its own size
    mid: Array


def unet(
    params: Params,
    config: UNetConfig,
    x: Latents,
    t: Float[Array, " b"],
    text: Text | TextOf,
    *,
    controls: tuple[Control, ...] = (),
    context: Context = Context(),
    residuals: Residuals | None = None,
    guidance: Float[Array, " b"] | None = None,
    compute: Compute = Compute(),
) -> tuple[Float[Array, "b h w o"], AttentionMaps]:
    """(the prediction for latents `x` at timesteps `t`, the maps that controls keep).

    `text` is an encoded prompt per image, or a function from `Site` to the text at that
    site. `residuals` are a ControlNet's. `guidance` is the weight of classifier-free
    guidance, for a UNet into which it is distilled (`time_cond_proj_dim`); without it
    the UNet has no such input. The base decides whether the prediction is
    noise or velocity. The result is float32.
    """
    condition = None
    if guidance is not None:
        assert config.time_cond_proj_dim is not None
        condition = guidance_embedding(guidance, config.time_cond_proj_dim)
    layers = make_layers(
        params,
        config,
        t,
        text,
        controls=controls,
        context=context,
        condition=condition,
        compute=compute,
    )
    y = conv(compute.gather(params["conv_in"]), compute.cast(x), compute=compute)
    skips, y, captured = encode(layers, params, y)
    if residuals is not None:
        skips, y = _add_residuals(skips, y, residuals)
    for i, kind in enumerate(config.up_block_types):
        block_params = params["up_blocks"][str(i)]
        n = len(block_params["resnets"])
        passed, skips = tuple(skips[-n:]), skips[:-n]
        # Upsample to the next skip's size, which matters for odd latents.
        size = (skips[-1].shape[1], skips[-1].shape[2]) if skips else None
        block = layers.recompute(
            functools.partial(_up_block, layers, i, _UP[kind], size), "block"
        )
        y, maps = block(block_params, y, passed)
        captured |= maps
    y = group_norm(
        params["conv_norm_out"], y, groups=config.norm_num_groups, eps=config.norm_eps
    )
    y = conv(compute.gather(params["conv_out"]), jax.nn.silu(y), compute=compute)
    return y.astype(jnp.float32), captured


def guidance_embedding(
    guidance: Float[Array, " b"], width: int
) -> Float[Array, "b width"]:
    """The sinusoidal embedding of a guidance weight, as diffusers' pipelines have it.

    `guidance` is w of eps_0 + w (eps - eps_0); 1000 (w - 1) is embedded as a time.
    """
    scaled = 1000 * (guidance - 1)
    embedding = time_embedding(scaled, width - width % 2, flip=False, shift=1.0)
    return jnp.pad(embedding, ((0, 0), (0, width % 2)))


def cross_sites(params: Params) -> tuple[str, ...]:
    """The names of a UNet's cross-attention sites, in the order of the forward pass."""
    names = {path.partition("/attn2/")[0] for path in flat(params) if "/attn2/" in path}
    places = {"down_blocks": 0, "mid_block": 1, "up_blocks": 2}

    def order(name: str) -> tuple[int, ...]:
        first, *rest = name.split("/")
        return (places[first], *(int(part) for part in rest if part.isdigit()))

    return tuple(f"{name}/attn2" for name in sorted(names, key=order))


def map_sides(
    config: UNetConfig, h: int, w: int, places: Collection[str]
) -> list[tuple[int, int]]:
    """(rows, columns) of h x w latents' cross-attention maps, the largest first.

    `places` selects from down, mid and up.
    """
    last = len(config.block_out_channels) - 1
    depths = {last} if "mid" in places else set()
    if "down" in places:
        depths |= {i for i, kind in enumerate(config.down_block_types) if DOWN[kind]}
    if "up" in places:
        depths |= {
            last - i for i, kind in enumerate(config.up_block_types) if _UP[kind]
        }
    return [(math.ceil(h / 2**i), math.ceil(w / 2**i)) for i in sorted(depths)]


def init_unet(key: Key, config: UNetConfig) -> Params:
    """Random parameters under diffusers' names; `eval_shape` of it is the manifest."""
    channels = config.block_out_channels
    keys = keys_for(key, "conv_in", "linear_1", "linear_2", "down", "mid", "up", "out")
    params = {
        **init_encoder(keys, config),
        "up_blocks": {},
        "conv_norm_out": init_norm(channels[0]),
        "conv_out": init_conv(keys["out"], 3, channels[0], config.out_channels),
    }
    if config.time_cond_proj_dim is not None:
        projection = init_dense(
            jax.random.fold_in(keys["linear_1"], 1),
            config.time_cond_proj_dim,
            channels[0],
            bias=False,
        )
        params["time_embedding"]["cond_proj"] = projection
    layers = config.per_block("layers_per_block")
    depths = config.per_block("transformer_layers_per_block")
    last, skips, width = len(channels) - 1, skip_channels(config), channels[-1]
    up_keys = jax.random.split(keys["up"], len(channels))
    for i, outputs in enumerate(reversed(channels)):
        inputs = []
        for _ in range(layers[last - i] + 1):
            inputs.append(width + skips.pop())
            width = outputs
        cross = _UP[config.up_block_types[i]]
        block = init_block(
            up_keys[i], config, inputs, outputs, depths[last - i] if cross else 0
        )
        if i < last:
            key = jax.random.fold_in(up_keys[i], 1)
            block["upsamplers"] = {"0": {"conv": init_conv(key, 3, outputs, outputs)}}
        params["up_blocks"][str(i)] = block
    return params


def _add_residuals(
    skips: Sequence[Array], y: Array, residuals: Residuals
) -> tuple[list[Array], Array]:
    added = zip(skips, residuals.down, strict=True)
    return [skip + residual for skip, residual in added], y + residuals.mid


def _up_block(
    layers: Layers,
    i: int,
    cross: bool,
    size: tuple[int, int] | None,
    params: Params,
    x: Array,
    skips: tuple[Array, ...],
):
    captured = {}
    for j in indices(params["resnets"]):
        x = jnp.concatenate([x, skips[-1 - int(j)]], axis=-1)
        x = layers.resnet(params["resnets"][j], x)
        if cross:
            name = f"up_blocks/{i}/attentions/{j}"
            x, maps = layers.transformer(params["attentions"][j], x, -1 - i, name, "up")
            captured |= maps
    if "upsamplers" in params:
        sampler = layers.compute.gather(params["upsamplers"]["0"]["conv"])
        x = conv(sampler, upsample(x, size), compute=layers.compute)
    return x, captured

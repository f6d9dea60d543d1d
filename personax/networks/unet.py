"""The SD 1.x/2.x UNet as a function: diffusers' UNet2DConditionModel, NHWC."""

import dataclasses
import functools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.networks.attention import Context, Control
from personax.networks.compute import Compute
from personax.networks.config import read_config
from personax.networks.layers import (
    conv,
    dense,
    group_norm,
    init_conv,
    init_dense,
    init_norm,
    keys_for,
    time_embedding,
    upsample,
)
from personax.networks.resnet import init_resnet, resnet
from personax.networks.transformer import init_transformer, transformer
from personax.tree import flat
from personax.typing import Kept, Key, Latents, Params, Text, TextOf

_DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
_MID = "UNetMidBlock2DCrossAttn"

# Published options that must have these values, because nothing else is computed here.
_NEUTRAL = {
    "act_fn": ("silu",),
    "attention_type": ("default",),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "downsample_padding": (1,),
    "dropout": (0.0, 0),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": (_MID,),
    "resnet_out_scale_factor": (1.0, 1),
    "resnet_time_scale_shift": ("default",),
    "time_embedding_type": ("positional",),
}
# `upcast_attention`: logits and softmax are float32 here always. The rest of these
# speak of parts that other options, refused above, would bring.
_IGNORED = frozenset(["upcast_attention", "addition_embed_type_num_heads"])


@dataclasses.dataclass(frozen=True)
class UNetConfig:
    """The published config.json's fields; the defaults are Stable Diffusion 1.5's.

    `attention_head_dim` is the number of heads, one for all blocks or one each: a
    misnomer that diffusers keeps.
    """

    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    layers_per_block: int | tuple[int, ...] = 2
    transformer_layers_per_block: int | tuple[int, ...] = 1
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 768
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0
    sample_size: int | tuple[int, int] | None = 64  # latent side it was trained at

    def __post_init__(self):
        blocks = len(self.block_out_channels)
        for field, known in (("down_block_types", _DOWN), ("up_block_types", _UP)):
            types = getattr(self, field)
            unknown = [name for name in types if name not in known]
            if unknown:
                raise ValueError(
                    f"UNet block type {unknown[0]!r} is not one of {', '.join(known)}."
                )
            if len(types) != blocks:
                raise ValueError(
                    f"{field} has {len(types)} entries, block_out_channels {blocks}."
                )
        for field in (
            "layers_per_block",
            "transformer_layers_per_block",
            "attention_head_dim",
        ):
            if len(self.per_block(field)) != blocks:
                raise ValueError(f"{field} must be a number or {blocks} of them.")
        if not isinstance(self.cross_attention_dim, int):
            raise ValueError("cross_attention_dim must be one number for all blocks.")

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "UNetConfig":
        """The config of a published unet/config.json; see `read_config` for errors."""
        return read_config(
            cls, values, neutral=_NEUTRAL, ignored=_IGNORED, name="The UNet"
        )

    @property
    def factor(self) -> int:
        """How often smaller the deepest block's side is than the latents'."""
        return 2 ** (len(self.block_out_channels) - 1)

    def per_block(self, field: str) -> tuple[int, ...]:
        """A field that may be one number for all blocks, as one number each."""
        value = getattr(self, field)
        if isinstance(value, int):
            return (value,) * len(self.block_out_channels)
        return tuple(value)


def unet(
    params: Params,
    config: UNetConfig,
    x: Latents,
    t: Float[Array, " b"],
    text: Text | TextOf,
    *,
    controls: tuple[Control, ...] = (),
    context: Context = Context(),
    compute: Compute = Compute(),
) -> tuple[Float[Array, "b h w o"], Kept]:
    """(the prediction for latents `x` at timesteps `t`, what controls kept).

    `text` is an encoded prompt per image, or a function of the `Site` that gives the
    text which that site reads. What is predicted, noise or velocity, is the base's
    affair. The result is float32.
    """
    time = time_embedding(
        t,
        config.block_out_channels[0],
        flip=config.flip_sin_to_cos,
        shift=config.freq_shift,
    )
    temb = dense(params["time_embedding"]["linear_1"], compute.cast(time))
    temb = dense(params["time_embedding"]["linear_2"], jax.nn.silu(temb))
    if not callable(text):
        text = compute.cast(text)
    layers = _Layers(config, temb, text, controls, context, compute)

    y = conv(params["conv_in"], compute.cast(x), compute=compute)
    skips, kept = [y], {}
    for i, kind in enumerate(config.down_block_types):
        block = layers.recompute(
            functools.partial(_down_block, layers, i, _DOWN[kind]), "block"
        )
        y, passed, maps = block(params["down_blocks"][str(i)], y)
        skips += passed
        kept |= maps
    mid = layers.recompute(functools.partial(_mid_block, layers), "block")
    y, maps = mid(params["mid_block"], y)
    kept |= maps
    for i, kind in enumerate(config.up_block_types):
        block_params = params["up_blocks"][str(i)]
        n = len(block_params["resnets"])
        passed, skips = tuple(skips[-n:]), skips[:-n]
        # The next skip's size is the size to enlarge to: odd latents need to be told.
        size = skips[-1].shape[1:3] if skips else None
        block = layers.recompute(
            functools.partial(_up_block, layers, i, _UP[kind], size), "block"
        )
        y, maps = block(block_params, y, passed)
        kept |= maps
    y = group_norm(
        params["conv_norm_out"], y, groups=config.norm_num_groups, eps=config.norm_eps
    )
    y = conv(params["conv_out"], jax.nn.silu(y), compute=compute)
    return y.astype(jnp.float32), kept


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

    Those at the `places`, which are among down, mid and up.
    """
    last = len(config.block_out_channels) - 1
    depths = {last} if "mid" in places else set()
    if "down" in places:
        depths |= {i for i, kind in enumerate(config.down_block_types) if _DOWN[kind]}
    if "up" in places:
        depths |= {
            last - i for i, kind in enumerate(config.up_block_types) if _UP[kind]
        }
    return [(math.ceil(h / 2**i), math.ceil(w / 2**i)) for i in sorted(depths)]


def init_unet(key: Key, config: UNetConfig) -> Params:
    """Random parameters under diffusers' names; `eval_shape` of it is the manifest."""
    channels = config.block_out_channels
    time_width = 4 * channels[0]
    keys = keys_for(key, "conv_in", "linear_1", "linear_2", "down", "mid", "up", "out")
    params = {
        "conv_in": init_conv(keys["conv_in"], 3, config.in_channels, channels[0]),
        "time_embedding": {
            "linear_1": init_dense(keys["linear_1"], channels[0], time_width),
            "linear_2": init_dense(keys["linear_2"], time_width, time_width),
        },
        "down_blocks": {},
        "up_blocks": {},
        "conv_norm_out": init_norm(channels[0]),
        "conv_out": init_conv(keys["out"], 3, channels[0], config.out_channels),
    }
    layers = config.per_block("layers_per_block")
    depths = config.per_block("transformer_layers_per_block")
    last = len(channels) - 1

    skips, width = [channels[0]], channels[0]
    down_keys = jax.random.split(keys["down"], len(channels))
    for i, outputs in enumerate(channels):
        inputs = [width] + [outputs] * (layers[i] - 1)
        cross = _DOWN[config.down_block_types[i]]
        block = _init_block(
            down_keys[i], config, inputs, outputs, depths[i] if cross else 0
        )
        skips += [outputs] * layers[i]
        if i < last:
            key = jax.random.fold_in(down_keys[i], 1)
            block["downsamplers"] = {"0": {"conv": init_conv(key, 3, outputs, outputs)}}
            skips.append(outputs)
        params["down_blocks"][str(i)] = block
        width = outputs

    params["mid_block"] = _init_block(
        keys["mid"], config, [width, width], width, depths[-1], transformers=1
    )

    up_keys = jax.random.split(keys["up"], len(channels))
    for i, outputs in enumerate(reversed(channels)):
        inputs = []
        for _ in range(layers[last - i] + 1):
            inputs.append(width + skips.pop())
            width = outputs
        cross = _UP[config.up_block_types[i]]
        block = _init_block(
            up_keys[i], config, inputs, outputs, depths[last - i] if cross else 0
        )
        if i < last:
            key = jax.random.fold_in(up_keys[i], 1)
            block["upsamplers"] = {"0": {"conv": init_conv(key, 3, outputs, outputs)}}
        params["up_blocks"][str(i)] = block
    return params


@dataclasses.dataclass(frozen=True)
class _Layers:
    """What every block of a forward pass needs beside its parameters and input."""

    config: UNetConfig
    temb: Float[Array, "b t"]
    text: Text | TextOf
    controls: tuple[Control, ...]
    context: Context
    compute: Compute

    def resnet(self, params: Params, x: Array) -> Array:
        def run(params, x, temb):
            return resnet(
                params,
                x,
                temb,
                groups=self.config.norm_num_groups,
                eps=self.config.norm_eps,
                compute=self.compute,
            )

        return self.recompute(run, "layer")(params, x, self.temb)

    def transformer(
        self, params: Params, x: Array, block: int, name: str, place: str
    ) -> tuple[Array, Kept]:
        def run(params, x):
            return transformer(
                params,
                x,
                self.text,
                heads=self.config.per_block("attention_head_dim")[block],
                groups=self.config.norm_num_groups,
                name=name,
                place=place,
                controls=self.controls,
                context=self.context,
                compute=self.compute,
            )

        return self.recompute(run, "layer")(params, x)

    def recompute(self, f: Callable, level: str) -> Callable:
        return jax.checkpoint(f) if self.compute.remat == level else f


def _down_block(layers: _Layers, i: int, cross: bool, params: Params, x: Array):
    skips, kept = [], {}
    for j in _indices(params["resnets"]):
        x = layers.resnet(params["resnets"][j], x)
        if cross:
            name = f"down_blocks/{i}/attentions/{j}"
            x, maps = layers.transformer(params["attentions"][j], x, i, name, "down")
            kept |= maps
        skips.append(x)
    if "downsamplers" in params:
        sampler = params["downsamplers"]["0"]["conv"]
        x = conv(sampler, x, stride=2, padding=1, compute=layers.compute)
        skips.append(x)
    return x, skips, kept


def _mid_block(layers: _Layers, params: Params, x: Array):
    x = layers.resnet(params["resnets"]["0"], x)
    name = "mid_block/attentions/0"
    x, kept = layers.transformer(params["attentions"]["0"], x, -1, name, "mid")
    return layers.resnet(params["resnets"]["1"], x), kept


def _up_block(
    layers: _Layers,
    i: int,
    cross: bool,
    size: tuple[int, int] | None,
    params: Params,
    x: Array,
    skips: tuple[Array, ...],
):
    kept = {}
    for j in _indices(params["resnets"]):
        x = jnp.concatenate([x, skips[-1 - int(j)]], axis=-1)
        x = layers.resnet(params["resnets"][j], x)
        if cross:
            name = f"up_blocks/{i}/attentions/{j}"
            x, maps = layers.transformer(params["attentions"][j], x, -1 - i, name, "up")
            kept |= maps
    if "upsamplers" in params:
        sampler = params["upsamplers"]["0"]["conv"]
        x = conv(sampler, upsample(x, size), compute=layers.compute)
    return x, kept


def _indices(params: Params) -> list[str]:
    # Not the dict's own order: jax sorts keys as strings, "10" before "2".
    return [str(j) for j in range(len(params))]


def _init_block(
    key: Key,
    config: UNetConfig,
    inputs: list[int],
    outputs: int,
    depth: int,
    transformers: int | None = None,
) -> Params:
    """Resnets with `inputs` channels each and, if `depth` > 0, their transformers."""
    resnet_key, attention_key = jax.random.split(key)
    time_width = 4 * config.block_out_channels[0]
    resnet_keys = jax.random.split(resnet_key, len(inputs))
    block = {
        "resnets": {
            str(j): init_resnet(resnet_keys[j], width, outputs, time_width)
            for j, width in enumerate(inputs)
        }
    }
    if depth:
        n = len(inputs) if transformers is None else transformers
        block["attentions"] = {
            str(j): init_transformer(
                attention_keys,
                outputs,
                config.cross_attention_dim,
                depth=depth,
                linear=config.use_linear_projection,
            )
            for j, attention_keys in enumerate(jax.random.split(attention_key, n))
        }
    return block

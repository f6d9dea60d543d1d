"""The UNet's down and mid blocks, shared with a ControlNet."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
from jaxtyping import Array, Float

from personax.core.typing import AttentionMaps, Key, Latents, Params, Text, TextOf
from personax.networks.attention import Context, Control
from personax.networks.compute import Compute
from personax.networks.config import check_divides
from personax.networks.layers import (
    conv,
    dense,
    init_conv,
    init_dense,
    time_embedding,
)
from personax.networks.resnet import init_resnet, resnet
from personax.networks.transformer import init_transformer, transformer

DOWN = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}

# Published options with the only values supported here.
NEUTRAL = {
    "act_fn": ("silu", "swish"),
    "downsample_padding": (1,),
    "mid_block_scale_factor": (1, 1.0),
    "mid_block_type": ("UNetMidBlock2DCrossAttn",),
    "resnet_time_scale_shift": ("default",),
}
# `upcast_attention`: logits and softmax are always float32 here. The other belongs to
# parts of unsupported options.
IGNORED = frozenset(["upcast_attention", "addition_embed_type_num_heads"])


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """The published config.json's fields; the defaults are Stable Diffusion 1.5's.

    `attention_head_dim` is the number of heads, for all blocks or per block; the name
    is diffusers'.
    """

    in_channels: int = 4
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    layers_per_block: int | tuple[int, ...] = 2
    transformer_layers_per_block: int | tuple[int, ...] = 1
    attention_head_dim: int | tuple[int, ...] = 8
    cross_attention_dim: int = 768
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    use_linear_projection: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0

    def __post_init__(self):
        self.check_types("down_block_types", DOWN)
        for field in (
            "layers_per_block",
            "transformer_layers_per_block",
            "attention_head_dim",
        ):
            blocks = len(self.block_out_channels)
            if len(self.per_block(field)) != blocks:
                raise ValueError(f"{field} must be a number or {blocks} of them.")
        if not isinstance(self.cross_attention_dim, int):
            raise ValueError("cross_attention_dim must be one number for all blocks.")
        widths = self.block_out_channels
        check_divides("norm_num_groups", self.norm_num_groups, widths)
        # The middle, of the last block's width, always has attention.
        cross = [DOWN[kind] for kind in self.down_block_types[:-1]] + [True]
        self.check_heads(cross)
        if self.freq_shift >= widths[0] // 2:
            raise ValueError(
                f"freq_shift {self.freq_shift:g} is not below {widths[0] // 2}, half "
                "of the first of block_out_channels."
            )

    def check_types(self, field: str, known: Mapping[str, bool]) -> None:
        """Raise ValueError unless the field has a known type for each block."""
        types, blocks = getattr(self, field), len(self.block_out_channels)
        unknown = [name for name in types if name not in known]
        if unknown:
            raise ValueError(
                f"UNet block type {unknown[0]!r} is not one of {', '.join(known)}."
            )
        if len(types) != blocks:
            raise ValueError(
                f"{field} has {len(types)} entries, block_out_channels {blocks}."
            )

    def check_heads(self, cross: Sequence[bool]) -> None:
        """Raise ValueError unless the heads divide the width of each block in `cross`.

        diffusers' attention would have another width than the block.
        """
        heads = self.per_block("attention_head_dim")
        blocks = zip(heads, self.block_out_channels, cross, strict=True)
        for count, width, used in blocks:
            if used:
                check_divides("attention_head_dim", count, [width])

    def per_block(self, field: str) -> tuple[int, ...]:
        """A field that may be one number for all blocks, as one number per block."""
        value = getattr(self, field)
        if isinstance(value, int):
            return (value,) * len(self.block_out_channels)
        return tuple(value)


@dataclasses.dataclass(frozen=True)
class Layers:
    """Inputs of a forward pass shared by all blocks."""

    config: EncoderConfig
    temb: Float[Array, "b t"]
    text: Text | TextOf
    controls: tuple[Control, ...]
    context: Context
    compute: Compute

    def resnet(self, params: Params, x: Array) -> Array:
        def run(params, x, temb):
            return resnet(
                self.compute.gather(params),
                x,
                temb,
                groups=self.config.norm_num_groups,
                eps=self.config.norm_eps,
                compute=self.compute,
            )

        return self.recompute(run, "layer")(params, x, self.temb)

    def transformer(
        self,
        params: Params,
        x: Array,
        block: int,
        name: str,
        place: Literal["down", "mid", "up"],
    ) -> tuple[Array, AttentionMaps]:
        def run(params, x):
            return transformer(
                self.compute.gather(params),
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


def make_layers(
    params: Params,
    config: EncoderConfig,
    t: Float[Array, " b"],
    text: Text | TextOf,
    *,
    controls: tuple[Control, ...] = (),
    context: Context = Context(),
    condition: Float[Array, "b e"] | None = None,
    compute: Compute = Compute(),
) -> Layers:
    """The layers at timesteps `t`, which read `text`.

    A `condition` is projected and added to the embedding of the time.
    """
    time = time_embedding(
        t,
        config.block_out_channels[0],
        flip=config.flip_sin_to_cos,
        shift=config.freq_shift,
    )
    embedding = compute.gather(params["time_embedding"])
    time = compute.cast(time)
    if condition is not None:
        time = time + dense(embedding["cond_proj"], compute.cast(condition))
    temb = dense(embedding["linear_1"], time)
    temb = dense(embedding["linear_2"], jax.nn.silu(temb))
    if not callable(text):
        text = compute.cast(text)
    return Layers(config, temb, text, controls, context, compute)


def encode(
    layers: Layers, params: Params, y: Latents
) -> tuple[list[Array], Array, AttentionMaps]:
    """(what the way up is to see again, what comes out of the middle, maps kept).

    `y` is what `conv_in` has made of the latents.
    """
    skips, captured = [y], {}
    for i, kind in enumerate(layers.config.down_block_types):
        block = layers.recompute(
            functools.partial(_down_block, layers, i, DOWN[kind]), "block"
        )
        y, passed, maps = block(params["down_blocks"][str(i)], y)
        skips += passed
        captured |= maps
    mid = layers.recompute(functools.partial(_mid_block, layers), "block")
    y, maps = mid(params["mid_block"], y)
    return skips, y, captured | maps


def init_encoder(keys: Mapping[str, Key], config: EncoderConfig) -> Params:
    """Random parameters from the keys conv_in, linear_1, linear_2, down and mid."""
    channels = config.block_out_channels
    time_width = 4 * channels[0]
    params = {
        "conv_in": init_conv(keys["conv_in"], 3, config.in_channels, channels[0]),
        "time_embedding": {
            "linear_1": init_dense(keys["linear_1"], channels[0], time_width),
            "linear_2": init_dense(keys["linear_2"], time_width, time_width),
        },
        "down_blocks": {},
    }
    layers = config.per_block("layers_per_block")
    depths = config.per_block("transformer_layers_per_block")
    width = channels[0]
    down_keys = jax.random.split(keys["down"], len(channels))
    for i, outputs in enumerate(channels):
        inputs = [width] + [outputs] * (layers[i] - 1)
        depth = depths[i] if DOWN[config.down_block_types[i]] else 0
        block = init_block(down_keys[i], config, inputs, outputs, depth)
        if i < len(channels) - 1:
            key = jax.random.fold_in(down_keys[i], 1)
            block["downsamplers"] = {"0": {"conv": init_conv(key, 3, outputs, outputs)}}
        params["down_blocks"][str(i)] = block
        width = outputs
    params["mid_block"] = init_block(
        keys["mid"], config, [width, width], width, depths[-1], transformers=1
    )
    return params


def skip_channels(config: EncoderConfig) -> list[int]:
    """The widths of what `encode` passes to the way up, in its order."""
    channels = config.block_out_channels
    widths = [channels[0]]
    for i, depth in enumerate(config.per_block("layers_per_block")):
        sampled = i < len(channels) - 1
        widths += [channels[i]] * (depth + sampled)
    return widths


def indices(params: Params) -> list[str]:
    # Not the dict's own order: jax sorts keys as strings, "10" before "2".
    return [str(j) for j in range(len(params))]


def init_block(
    key: Key,
    config: EncoderConfig,
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


def _down_block(layers: Layers, i: int, cross: bool, params: Params, x: Array):
    skips, captured = [], {}
    for j in indices(params["resnets"]):
        x = layers.resnet(params["resnets"][j], x)
        if cross:
            name = f"down_blocks/{i}/attentions/{j}"
            x, maps = layers.transformer(params["attentions"][j], x, i, name, "down")
            captured |= maps
        skips.append(x)
    if "downsamplers" in params:
        sampler = layers.compute.gather(params["downsamplers"]["0"]["conv"])
        x = conv(sampler, x, stride=2, padding=1, compute=layers.compute)
        skips.append(x)
    return x, skips, captured


def _mid_block(layers: Layers, params: Params, x: Array):
    x = layers.resnet(params["resnets"]["0"], x)
    name = "mid_block/attentions/0"
    x, captured = layers.transformer(params["attentions"]["0"], x, -1, name, "mid")
    return layers.resnet(params["resnets"]["1"], x), captured

"""ControlNet of SD 1.x/2.x as a function: diffusers' ControlNetModel, NHWC."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Key, Latents, Params, Text, TextOf
from personax.networks.compute import Compute
from personax.networks.config import read_config
from personax.networks.encoder import (
    IGNORED,
    NEUTRAL,
    EncoderConfig,
    encode,
    init_encoder,
    make_layers,
    skip_channels,
)
from personax.networks.layers import conv, keys_for
from personax.networks.unet import Residuals

_ORDERS = ("rgb", "bgr")


@dataclasses.dataclass(frozen=True)
class ControlNetConfig(EncoderConfig):
    """The published config.json's fields; the defaults are Stable Diffusion 1.5's.

    The hint encoder halves a picture's sides once for each of
    `conditioning_embedding_out_channels` but the first.
    """

    conditioning_channels: int = 3
    conditioning_embedding_out_channels: tuple[int, ...] = (16, 32, 96, 256)
    controlnet_conditioning_channel_order: str = "rgb"

    def __post_init__(self):
        super().__post_init__()
        order = self.controlnet_conditioning_channel_order
        if order not in _ORDERS:
            raise ValueError(
                f"Unknown controlnet_conditioning_channel_order {order!r}; expected "
                f"one of {', '.join(_ORDERS)}."
            )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ControlNetConfig":
        """The config of a published config.json; see `read_config` for errors."""
        return read_config(
            cls, values, neutral=NEUTRAL, ignored=IGNORED, name="The ControlNet"
        )

    @classmethod
    def of(cls, encoder: EncoderConfig, channels: Sequence[int]) -> "ControlNetConfig":
        """The config for a UNet's encoder, with a hint encoder of these widths."""
        shared = {
            field.name: getattr(encoder, field.name)
            for field in dataclasses.fields(EncoderConfig)
        }
        return cls(**shared, conditioning_embedding_out_channels=tuple(channels))

    @property
    def factor(self) -> int:
        """Pixels of a hint per latent cell."""
        return 2 ** (len(self.conditioning_embedding_out_channels) - 1)


def controlnet(
    params: Params,
    config: ControlNetConfig,
    x: Latents,
    t: Float[Array, " b"],
    text: Text | TextOf,
    hint: Float[Array, "b2 h2 w2 c2"],
    *,
    strength: Float[Array, " b"] | None = None,
    compute: Compute = Compute(),
) -> Residuals:
    """The residuals for a UNet at latents `x` and timesteps `t`.

    Zhang et al. 2023, eq. 4. `hint` is the output of `embed_hint`; `strength` scales
    the result (diffusers' conditioning scale).
    """
    if hint.shape[1:3] != x.shape[1:3]:
        hint_size, size = (
            f"{w * config.factor}x{h * config.factor}"
            for h, w in (hint.shape[1:3], x.shape[1:3])
        )
        raise ValueError(f"The hint has {hint_size} pixels, the picture {size}.")
    layers = make_layers(params, config, t, text, compute=compute)
    y = conv(params["conv_in"], compute.cast(x), compute=compute)
    skips, y, _ = encode(layers, params, y + compute.cast(hint))

    def zero(module: Params, y: Array) -> Array:
        y = conv(module, y, compute=compute)
        if strength is None:
            return y
        return y * strength.astype(y.dtype)[:, None, None, None]

    passed = params["controlnet_down_blocks"]
    down = tuple(zero(passed[str(i)], skip) for i, skip in enumerate(skips))
    return Residuals(down, zero(params["controlnet_mid_block"], y))


def embed_hint(
    params: Params,
    config: ControlNetConfig,
    hint: Float[Array, "b height width c"],
    *,
    compute: Compute = Compute(),
) -> Float[Array, "b h w c2"]:
    """Encode a condition in [0, 1] to the latents' size; independent of the timestep.

    A single channel is repeated. Raises ValueError for another number of channels than
    the ControlNet's, and for a size that is not a multiple of its factor.
    """
    _, height, width, channels = hint.shape
    expected = config.conditioning_channels
    if channels not in (1, expected):
        raise ValueError(
            f"The hint has {channels} channels, the ControlNet expects {expected}."
        )
    if height % config.factor or width % config.factor:
        raise ValueError(
            f"The hint's size {width}x{height} must be a multiple of {config.factor}."
        )
    hint = jnp.broadcast_to(hint, (*hint.shape[:3], expected))
    if config.controlnet_conditioning_channel_order == "bgr":
        hint = hint[..., ::-1]
    params = params["controlnet_cond_embedding"]
    y = jax.nn.silu(conv(params["conv_in"], compute.cast(hint), compute=compute))
    for i in range(2 * len(config.conditioning_embedding_out_channels) - 2):
        # Every other one halves.
        y = conv(params["blocks"][str(i)], y, stride=1 + i % 2, compute=compute)
        y = jax.nn.silu(y)
    return conv(params["conv_out"], y, compute=compute)


def init_controlnet(key: Key, config: ControlNetConfig) -> Params:
    """Random parameters under diffusers' names; its output layers start at zero.

    `eval_shape` of it is the manifest; training starts from `copy_encoder`.
    """
    keys = keys_for(key, "conv_in", "linear_1", "linear_2", "down", "mid", "hint")
    encoder = init_encoder(keys, config)
    widths = (config.conditioning_channels, *config.conditioning_embedding_out_channels)
    return _with_zeros(encoder, keys["hint"], widths, skip_channels(config))


def copy_encoder(key: Key, unet: Params, channels: Sequence[int]) -> Params:
    """A ControlNet's initial parameters for training, float32.

    Zhang et al. 2023, sec. 3.1: the UNet's encoder and mid block are copied, the output
    layers and the last layer of the hint encoder are zero, its other layers random. The
    hint encoder maps three channels through `channels`.
    """
    shared = ("conv_in", "time_embedding", "down_blocks", "mid_block")
    copied = {name: unet[name] for name in shared}
    # Always a copy: the training step donates its buffers.
    copied = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), copied)
    widths = [copied["conv_in"]["bias"].shape[0]]
    for i in range(len(copied["down_blocks"])):
        block = copied["down_blocks"][str(i)]
        outputs = block["resnets"]["0"]["conv2"]["bias"].shape[0]
        widths += [outputs] * (len(block["resnets"]) + ("downsamplers" in block))
    return _with_zeros(copied, key, (3, *channels), widths)


def _with_zeros(
    encoder: Params, key: Key, channels: Sequence[int], widths: Sequence[int]
) -> Params:
    """Add a hint encoder and zero convolutions to the encoder."""
    steps = [*channels[1:], widths[0]]
    first, *rest = jax.random.split(key, 1 + 2 * len(steps))
    blocks = {}
    for i in range(len(steps) - 2):
        inputs, outputs = steps[i : i + 2]
        blocks[str(2 * i)] = _he(rest[2 * i], inputs, inputs)
        blocks[str(2 * i + 1)] = _he(rest[2 * i + 1], inputs, outputs)
    return {
        **encoder,
        "controlnet_cond_embedding": {
            "conv_in": _he(first, *channels[:2]),
            "blocks": blocks,
            "conv_out": _zeros(3, *steps[-2:]),
        },
        "controlnet_down_blocks": {
            str(i): _zeros(1, width, width) for i, width in enumerate(widths)
        },
        "controlnet_mid_block": _zeros(1, widths[-1], widths[-1]),
    }


def _he(key: Key, inputs: int, outputs: int) -> Params:
    # torch's default, which the release uses, shrinks activations to a third per layer,
    # so that thin edges almost vanish (He et al. 2015).
    kernel = jax.nn.initializers.he_normal()(key, (3, 3, inputs, outputs))
    return {"kernel": kernel, "bias": jnp.zeros(outputs)}


def _zeros(size: int, inputs: int, outputs: int) -> Params:
    return {
        "kernel": jnp.zeros((size, size, inputs, outputs)),
        "bias": jnp.zeros(outputs),
    }

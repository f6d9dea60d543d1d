"""AutoencoderKL: images to latents and back (Rombach et al. 2022)."""

import dataclasses
import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Images, Key, Latents, Params
from personax.networks.attention import attend, init_attention
from personax.networks.compute import Compute
from personax.networks.config import check_divides, read_config
from personax.networks.layers import (
    conv,
    dense,
    group_norm,
    init_conv,
    init_norm,
    keys_for,
    upsample,
)
from personax.networks.resnet import init_resnet, resnet

_EPS = 1e-6  # of every group norm; diffusers has no option for it


@dataclasses.dataclass(frozen=True)
class VAEConfig:
    """diffusers' AutoencoderKL; the defaults are Stable Diffusion 1.5's.

    `sample_size` is the side of `decode_tiled`'s tiles, in pixels.
    `force_upcast` marks weights whose activations overflow float16: with them a float16
    computation runs in float32.
    """

    in_channels: int = 3
    out_channels: int = 3
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (128, 256, 512, 512)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    mid_block_add_attention: bool = True
    use_quant_conv: bool = True
    use_post_quant_conv: bool = True
    scaling_factor: float = 0.18215
    shift_factor: float | None = None
    sample_size: int = 512
    force_upcast: bool = True

    def __post_init__(self):
        check_divides("norm_num_groups", self.norm_num_groups, self.block_out_channels)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "VAEConfig":
        """The config of a published config.json."""
        widths = values.get("block_out_channels")
        blocks = len(widths if isinstance(widths, list) else cls.block_out_channels)
        neutral = {
            "act_fn": ("silu", "swish"),
            "down_block_types": (["DownEncoderBlock2D"] * blocks,),
            "up_block_types": (["UpDecoderBlock2D"] * blocks,),
        }
        return read_config(
            cls,
            values,
            neutral=neutral,
            signed=frozenset(["shift_factor"]),
            name="AutoencoderKL",
        )

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along each side."""
        return 2 ** (len(self.block_out_channels) - 1)


class Posterior(NamedTuple):
    """The Gaussian over an image's unscaled latents; its mode is `mean`."""

    mean: Latents
    logvar: Latents


def encode(
    params: Params, config: VAEConfig, images: Images, *, compute: Compute = Compute()
) -> Posterior:
    """The posterior of images in [-1, 1], float32; `scale` takes its draw or mean."""
    compute = _numerics(config, compute)
    x = _encoder(params["encoder"], config, compute.cast(images), compute)
    if "quant_conv" in params:
        x = conv(params["quant_conv"], x, compute=compute)
    mean, logvar = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return Posterior(mean, jnp.clip(logvar, -30.0, 20.0))


def draw(posterior: Posterior, keys: Key) -> Latents:
    """One sample per image from its own key, independent of the batch."""
    mean, logvar = posterior
    noise = jax.vmap(lambda key: jax.random.normal(key, mean.shape[1:]))(keys)
    return mean + jnp.exp(0.5 * logvar) * noise


def scale(config: VAEConfig, z: Latents) -> Latents:
    """The UNet's input of latents `z`: about unit variance."""
    return (z - (config.shift_factor or 0.0)) * config.scaling_factor


def unscale(config: VAEConfig, latents: Latents) -> Latents:
    """The inverse of `scale`."""
    return latents / config.scaling_factor + (config.shift_factor or 0.0)


def decode(
    params: Params, config: VAEConfig, latents: Latents, *, compute: Compute = Compute()
) -> Images:
    """The images of scaled latents, float32; in about [-1, 1], not clipped."""
    compute = _numerics(config, compute)
    x = compute.cast(unscale(config, latents.astype(jnp.float32)))
    if "post_quant_conv" in params:
        x = conv(params["post_quant_conv"], x, compute=compute)
    return _decoder(params["decoder"], config, x, compute).astype(jnp.float32)


def decode_sliced(
    params: Params, config: VAEConfig, latents: Latents, *, compute: Compute = Compute()
) -> Images:
    """`decode` one image at a time: the memory of one, whatever the batch."""

    def one(z: Float[Array, "h w c"]) -> Float[Array, "height width channels"]:
        return decode(params, config, z[None], compute=compute)[0]

    return jax.lax.map(one, latents)


def decode_tiled(
    params: Params, config: VAEConfig, latents: Latents, *, compute: Compute = Compute()
) -> Images:
    """`decode` in tiles of `sample_size` pixels that overlap by a quarter, blended.

    The memory is that of decoding one tile. Each tile has its own norm statistics, so
    that the image differs slightly from `decode`'s. Latents that fit one tile are
    decoded whole. The blending is that of diffusers' `tiled_decode`.
    """
    _, h, w, _ = latents.shape
    side = config.sample_size // config.factor
    if max(h, w) <= side:
        return decode(params, config, latents, compute=compute)
    if side < 4 or side % 4:
        raise ValueError(
            f"A tile of sample_size {config.sample_size} is {side} latent cells wide; "
            "decode_tiled needs a multiple of 4."
        )
    step = 3 * side // 4
    rows, columns = range(0, h, step), range(0, w, step)
    function = functools.partial(decode, params, config, compute=compute)
    tiles = _map_tiles(function, latents, list(itertools.product(rows, columns)), side)
    size, overlap = config.factor * step, config.factor * (side - step)
    return _blend(tiles, rows, columns, size, overlap)


def init_vae(key: Key, config: VAEConfig) -> Params:
    """Parameters as torch's layers start: {"encoder", "decoder", "quant_conv", …}."""
    keys = keys_for(key, "encoder", "decoder", "quant_conv", "post_quant_conv")
    params = {
        "encoder": _init_encoder(keys["encoder"], config),
        "decoder": _init_decoder(keys["decoder"], config),
    }
    c = config.latent_channels
    if config.use_quant_conv:
        params["quant_conv"] = init_conv(keys["quant_conv"], 1, 2 * c, 2 * c)
    if config.use_post_quant_conv:
        params["post_quant_conv"] = init_conv(keys["post_quant_conv"], 1, c, c)
    return params


def _numerics(config: VAEConfig, compute: Compute) -> Compute:
    if compute.dtype == "float16" and config.force_upcast:
        compute = dataclasses.replace(compute, dtype="float32")
    if compute.attention == "cudnn":
        # Its one head is as wide as the deepest block, beyond what cuDNN takes.
        compute = dataclasses.replace(compute, attention="auto")
    return compute


def _encoder(
    params: Params, config: VAEConfig, x: Images, compute: Compute
) -> Float[Array, "b h w c2"]:
    x = conv(params["conv_in"], x, compute=compute)
    down = _remat(_down_block, config, compute, "block")
    for i in range(len(params["down_blocks"])):
        x = down(params["down_blocks"][str(i)], x)
    x = _remat(_mid_block, config, compute, "block")(params["mid_block"], x)
    return _conv_out(params, config, x, compute)


def _decoder(
    params: Params, config: VAEConfig, x: Latents, compute: Compute
) -> Float[Array, "b height width channels"]:
    x = conv(params["conv_in"], x, compute=compute)
    x = _remat(_mid_block, config, compute, "block")(params["mid_block"], x)
    up = _remat(_up_block, config, compute, "block")
    for i in range(len(params["up_blocks"])):
        x = up(params["up_blocks"][str(i)], x)
    return _conv_out(params, config, x, compute)


def _down_block(
    params: Params, x: Latents, *, config: VAEConfig, compute: Compute
) -> Float[Array, "b h2 w2 c2"]:
    x = _resnets(params["resnets"], x, config, compute)
    if "downsamplers" not in params:
        return x
    # Only the right and the bottom edge are padded, unlike the UNet's.
    edges = ((0, 1), (0, 1))
    down = params["downsamplers"]["0"]["conv"]
    return conv(down, x, stride=2, padding=edges, compute=compute)


def _mid_block(
    params: Params, x: Latents, *, config: VAEConfig, compute: Compute
) -> Latents:
    layer = _remat(_resnet, config, compute, "layer")
    x = layer(params["resnets"]["0"], x)
    if "attentions" in params:
        x = _attention(params["attentions"]["0"], x, config, compute)
    return layer(params["resnets"]["1"], x)


def _up_block(
    params: Params, x: Latents, *, config: VAEConfig, compute: Compute
) -> Float[Array, "b h2 w2 c2"]:
    x = _resnets(params["resnets"], x, config, compute)
    if "upsamplers" not in params:
        return x
    return conv(params["upsamplers"]["0"]["conv"], upsample(x), compute=compute)


def _resnets(
    params: Params, x: Latents, config: VAEConfig, compute: Compute
) -> Float[Array, "b h w c2"]:
    layer = _remat(_resnet, config, compute, "layer")
    for i in range(len(params)):
        x = layer(params[str(i)], x)
    return x


def _resnet(
    params: Params, x: Latents, *, config: VAEConfig, compute: Compute
) -> Float[Array, "b h w c2"]:
    groups = config.norm_num_groups
    return resnet(params, x, groups=groups, eps=_EPS, compute=compute)


def _attention(
    params: Params, x: Latents, config: VAEConfig, compute: Compute
) -> Latents:
    """Self-attention between all cells, with one head."""
    b, h, w, c = x.shape
    y = _norm(params["group_norm"], x, config).reshape(b, h * w, 1, c)
    q, k, v = (dense(params[name], y) for name in ("to_q", "to_k", "to_v"))
    y = attend(q, k, v, compute=compute)
    return x + dense(params["to_out"]["0"], y).reshape(x.shape)


def _conv_out(
    params: Params, config: VAEConfig, x: Latents, compute: Compute
) -> Float[Array, "b h w c2"]:
    x = jax.nn.silu(_norm(params["conv_norm_out"], x, config))
    return conv(params["conv_out"], x, compute=compute)


def _norm(params: Params, x: Latents, config: VAEConfig) -> Latents:
    return group_norm(params, x, groups=config.norm_num_groups, eps=_EPS)


def _remat(
    function: Callable[..., Array], config: VAEConfig, compute: Compute, level: str
) -> Callable[[Params, Array], Array]:
    """`function` of (params, x), recomputed backward if `compute.remat` is `level`."""
    function = functools.partial(function, config=config, compute=compute)
    return jax.checkpoint(function) if compute.remat == level else function


def _map_tiles(
    function: Callable[[Latents], Images],
    latents: Latents,
    corners: list[tuple[int, int]],
    side: int,
) -> dict[tuple[int, int], Images]:
    """{corner: function(tile)}; tiles end where the latents end.

    One loop per shape of tile (at most nine) compiles each decoder once.
    """
    by_shape = defaultdict(dict)
    for i, j in corners:
        tile = latents[:, i : i + side, j : j + side]
        by_shape[tile.shape][i, j] = tile
    out = {}
    for tiles in by_shape.values():
        images = jax.lax.map(function, jnp.stack(list(tiles.values())))
        out.update(zip(tiles, images, strict=True))
    return out


def _blend(
    tiles: dict[tuple[int, int], Images],
    rows: range,
    columns: range,
    size: int,
    overlap: int,
) -> Float[Array, "b height2 width2 channels"]:
    """Blend overlapping tiles into one picture; each keeps `size` pixels a side.

    A tile is blended with its upper, then its left neighbour, both already blended.
    """
    lines = []
    for i in rows:
        for j in columns:
            if i > 0:
                above = tiles[i - rows.step, j]
                tiles[i, j] = _fade(above, tiles[i, j], overlap, axis=1)
            if j > 0:
                left = tiles[i, j - columns.step]
                tiles[i, j] = _fade(left, tiles[i, j], overlap, axis=2)
        line = [tiles[i, j][:, :size, :size] for j in columns]
        lines.append(jnp.concatenate(line, axis=2))
    return jnp.concatenate(lines, axis=1)


def _fade(
    a: Float[Array, "b height2 width2 channels"], b: Images, overlap: int, *, axis: int
) -> Images:
    """`b`, its first `overlap` pixels along `axis` fading in from `a`'s last ones."""
    # A tile at the far edge may be narrower than the overlap.
    overlap = min(a.shape[axis], b.shape[axis], overlap)
    shape = [overlap if k == axis else 1 for k in range(4)]
    weight = (jnp.arange(overlap) / overlap).reshape(shape)
    end = jax.lax.slice_in_dim(a, a.shape[axis] - overlap, None, axis=axis)
    start = jax.lax.slice_in_dim(b, 0, overlap, axis=axis)
    rest = jax.lax.slice_in_dim(b, overlap, None, axis=axis)
    return jnp.concatenate([end * (1 - weight) + start * weight, rest], axis=axis)


def _init_encoder(key: Key, config: VAEConfig) -> Params:
    widths = config.block_out_channels
    keys = keys_for(key, "conv_in", "down_blocks", "mid_block", "conv_out")
    outputs = 2 * config.latent_channels  # mean and log variance
    return {
        "conv_in": init_conv(keys["conv_in"], 3, config.in_channels, widths[0]),
        "down_blocks": _init_blocks(
            keys["down_blocks"], widths, config.layers_per_block, "downsamplers"
        ),
        "mid_block": _init_mid_block(keys["mid_block"], config),
        "conv_norm_out": init_norm(widths[-1]),
        "conv_out": init_conv(keys["conv_out"], 3, widths[-1], outputs),
    }


def _init_decoder(key: Key, config: VAEConfig) -> Params:
    widths = config.block_out_channels[::-1]
    keys = keys_for(key, "conv_in", "up_blocks", "mid_block", "conv_out")
    return {
        "conv_in": init_conv(keys["conv_in"], 3, config.latent_channels, widths[0]),
        "up_blocks": _init_blocks(
            keys["up_blocks"], widths, config.layers_per_block + 1, "upsamplers"
        ),
        "mid_block": _init_mid_block(keys["mid_block"], config),
        "conv_norm_out": init_norm(widths[-1]),
        "conv_out": init_conv(keys["conv_out"], 3, widths[-1], config.out_channels),
    }


def _init_blocks(
    key: Key, widths: tuple[int, ...], layers: int, sampler: str
) -> Params:
    """One block per width; each but the last ends with a `sampler`."""
    params = {}
    pairs = itertools.pairwise((widths[0], *widths))
    for i, (inputs, width) in enumerate(pairs):
        *keys, sampler_key = jax.random.split(jax.random.fold_in(key, i), layers + 1)
        resnets = {
            str(j): init_resnet(keys[j], width if j else inputs, width)
            for j in range(layers)
        }
        params[str(i)] = {"resnets": resnets}
        if i < len(widths) - 1:
            kernel = init_conv(sampler_key, 3, width, width)
            params[str(i)][sampler] = {"0": {"conv": kernel}}
    return params


def _init_mid_block(key: Key, config: VAEConfig) -> Params:
    width = config.block_out_channels[-1]
    keys = keys_for(key, "first", "second", "attention")
    params = {
        "resnets": {
            "0": init_resnet(keys["first"], width, width),
            "1": init_resnet(keys["second"], width, width),
        }
    }
    if config.mid_block_add_attention:
        attention = init_attention(keys["attention"], width, bias=True)
        params["attentions"] = {"0": {"group_norm": init_norm(width), **attention}}
    return params

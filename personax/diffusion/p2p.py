"""Prompt-to-Prompt (Hertz et al. 2022): attention edits, local blend."""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from personax.control.maps import Capture
from personax.core.typing import AttentionMaps, Latents, Probs
from personax.diffusion import alignment, paired
from personax.diffusion.alignment import Window
from personax.diffusion.denoiser import Denoiser
from personax.diffusion.paired import Follow, Stream
from personax.diffusion.sampling import Post
from personax.diffusion.solvers import Grid, Solver
from personax.networks.tokenizer import Tokenizer
from personax.networks.unet import UNetConfig, map_sides


@struct.dataclass
class Blend:
    """The local blend: an edit differs from its source near some words only.

    `words` marks the tokens of each stream's terms whose maps make the mask,
    `subtract` those whose maps are removed from it. `threshold` is the share of a map's
    maximum above which a place is in the mask, for the source and the edits. Blending
    begins at step `start`.
    """

    words: Float[Array, "p j n"]
    threshold: Float[Array, "2"]
    subtract: Float[Array, "p j n"]
    subtract_threshold: Float[Array, ""]
    start: Int[Array, ""]


def follow(
    tokenizer: Tokenizer,
    source: str,
    edit: str,
    *,
    steps: int,
    kind: alignment.Kind = "auto",
    cross: Window | Mapping[str, Window] = 0.8,
    within: Window = 0.4,
    max_pixels: int = 0,
    factors: Mapping[str, float] | None = None,
    phrases: Sequence[str] = (),
    compat: bool = False,
) -> Follow:
    """How the prompt `edit` follows `source` in `steps` evaluations of the network.

    `cross` are the windows of the words in cross-attention, `within` that of
    self-attention with at most `max_pixels` pixels, `factors` {word of the edit: factor
    of its attention}. See `alignment.align` for the rest and ValueErrors.
    """
    matched = alignment.align(
        tokenizer, source, edit, kind, phrases=phrases, compat=compat
    )
    scale = alignment.equalizer(tokenizer, edit, factors or {})
    mapper, own = alignment.reweight(matched, scale)
    return Follow(
        jnp.asarray(mapper),
        jnp.asarray(own),
        jnp.asarray(alignment.word_schedule(tokenizer, edit, cross, steps)),
        jnp.asarray(alignment.step_schedule(within, steps)),
        max_pixels,
    )


def draw(
    denoisers: Mapping[str, Denoiser],
    streams: Sequence[Stream],
    solver: Solver,
    grid: Grid,
    x: Latents,
    keys: Array | None = None,
    *,
    blend: Blend | None = None,
) -> Float[Array, "p b h w c"]:
    """`paired.draw` with a local blend."""
    if blend is None:
        return paired.draw(denoisers, streams, solver, grid, x, keys)
    side = blend_side(denoisers[streams[0].terms[0].denoiser].spec.unet, x.shape)
    keep = (Capture(max_pixels=math.prod(side)),)
    post, carry = make_post(blend, side, x.shape[0])
    return paired.draw(
        denoisers, streams, solver, grid, x, keys, keep=keep, post=post, carry=carry
    )


def make_post(
    blend: Blend, side: tuple[int, int], images: int
) -> tuple[Post, Float[Array, "k p b rows columns"]]:
    """(the local blend as a post of `sampling.sample`, its initial maps).

    The probabilities of the words' tokens at the sites with `side` rows and columns are
    summed over the steps so far. Outside the union of its own and the source's mask an
    edit takes the source's latents (Hertz et al. 2022, sec. 4).
    """
    chosen = jnp.stack([blend.words, blend.subtract])
    count = chosen.shape[1]

    def post(i, x, maps, carry):
        carry = carry + _word_maps(maps, chosen, side)
        latents = x.reshape(count, -1, *x.shape[1:])
        first, second = blend.threshold
        thresholds = jnp.where(jnp.arange(count) == 0, first, second)
        mask = _mask(_pooled(carry[0]), thresholds, x.shape[1:3])
        removed = jnp.broadcast_to(blend.subtract_threshold, (count,))
        mask &= ~_mask(carry[1], removed, x.shape[1:3])
        source = latents[:1]
        mixed = jnp.where(mask[..., None], latents, source)
        return jnp.where(i >= blend.start, mixed, latents).reshape(x.shape), carry

    return post, jnp.zeros((2, count, images, *side))


def pixel_limit(config: UNetConfig, h: int, w: int, share: float = 0.5) -> int:
    """The pixels of `share` of each side of h x w latents, at least the smallest map's.

    The authors' 16² and 32² for the self-attention that is replaced are 1/4 and 1/2 of
    Stable Diffusion's 64. Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"The share {share} of the latents' side is not in [0, 1].")
    least = math.ceil(h / config.factor) * math.ceil(w / config.factor)
    return max(int(share * h) * int(share * w), least)


def blend_side(config: UNetConfig, shape: Sequence[int]) -> tuple[int, int]:
    """(rows, columns) of the maps that make masks for latents "b h w c".

    The cross-attention with the fewest rows that are at least a quarter of the
    latents': 16 of Stable Diffusion's 64.
    """
    _, h, w, _ = shape
    sides = map_sides(config, h, w, ("down",))
    if not sides:
        raise ValueError(
            "A local blend needs cross-attention in the UNet's down blocks."
        )
    return min((side for side in sides if 4 * side[0] >= h), default=max(sides))


def _word_maps(
    maps: Mapping[int, Mapping[int, AttentionMaps]],
    chosen: Float[Array, "k p j n"],
    side: tuple[int, int],
) -> Float[Array, "k p b rows columns"]:
    """The chosen tokens' probabilities, averaged over heads and layers."""
    streams = []
    for p in range(chosen.shape[1]):
        total = jnp.zeros(())
        for j, sites in maps.get(p, {}).items():
            layers = _layers(sites, math.prod(side))
            probs = jnp.stack([layer.mean(1) for layer in layers]).mean(0)
            total = total + jnp.einsum("bqn,kn->kbq", probs, chosen[:, p, j])
        streams.append(total.reshape(*total.shape[:-1], *side))
    return jnp.stack(streams, 1)


def _layers(sites: AttentionMaps, pixels: int) -> list[Probs]:
    """The cross-attention maps of that size in the down and up blocks."""
    return [
        probs
        for name, probs in sites.items()
        if name.endswith("attn2")
        and not name.startswith("mid_block")
        and probs.shape[2] == pixels
    ]


def _pooled(maps: Float[Array, "p b h w"]) -> Float[Array, "p b h w"]:
    """The maximum over a place and its neighbours."""
    window, ones = (1, 1, 3, 3), (1, 1, 1, 1)
    return jax.lax.reduce_window(maps, -jnp.inf, jax.lax.max, window, ones, "SAME")


def _mask(
    maps: Float[Array, "p b rows columns"],
    thresholds: Float[Array, " p"],
    size: tuple[int, int],
) -> Bool[Array, "p b h w"]:
    """Where a map or the source's exceeds its threshold, at the latents' size."""
    rows, columns = (
        np.arange(n) * m // n for n, m in zip(size, maps.shape[2:], strict=True)
    )
    maps = maps[:, :, rows][:, :, :, columns]
    top = maps.max((2, 3), keepdims=True)
    # Where no token was chosen the maximum is 0, and nothing is above it.
    share = maps / jnp.where(top == 0, jnp.inf, top)
    mask = share > thresholds[:, None, None, None]
    return mask | mask[:1]

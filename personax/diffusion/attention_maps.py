"""Cross-attention maps of prompt tokens, averaged over the steps of a sampling run."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from personax.control.maps import Capture
from personax.core.typing import Latents, Probs
from personax.diffusion.denoiser import Denoiser
from personax.diffusion.sampling import Post
from personax.networks.unet import map_sides

TermMaps = Float[Array, "j b y x n"]


@struct.dataclass
class AttentionMapSpec:
    """Which maps are averaged.

    `side` is (rows, columns) of the maps; `places` are among down, mid and up; `steps`
    are the first and last share of the grid's rows.
    """

    side: tuple[int, int] = struct.field(pytree_node=False)
    places: tuple[str, ...] = struct.field(pytree_node=False, default=("down", "up"))
    steps: tuple[float, float] = struct.field(pytree_node=False, default=(0.0, 1.0))


def make_map_spec(
    denoiser: Denoiser,
    shape: tuple[int, int, int],
    *,
    side: int | None = None,
    places: Sequence[str] = ("down", "up"),
    steps: tuple[float, float] = (0.0, 1.0),
) -> AttentionMapSpec:
    """The spec for latents of `shape`, with maps of `side` rows.

    Without a `side`, the maps of Prompt-to-Prompt's release: a quarter of the latents'
    side, 16 at 64, and at least 8, the embedded base's. Raises ValueError for a side
    that no map at these places has, and for unknown places or invalid steps.
    """
    unknown = [place for place in places if place not in ("down", "mid", "up")]
    if unknown or not places:
        raise ValueError(
            f"Invalid places {tuple(places)}; expected some of down, mid, up."
        )
    if not 0 <= steps[0] < steps[1] <= 1:
        raise ValueError(
            f"Invalid steps {steps}; expected two shares in [0, 1], such as (0, 0.8)."
        )
    sides = {
        rows: (rows, columns)
        for rows, columns in map_sides(denoiser.spec.unet, *shape[:2], places)
    }
    if side is not None and side not in sides:
        names = ", ".join(map(str, sorted(sides)))
        raise ValueError(
            f"No map at {', '.join(places)} has side {side}; expected one of {names}."
        )
    least = max(shape[0] / 4, 8)
    default = min((rows for rows in sides if rows >= least), default=max(sides))
    first, last = steps
    return AttentionMapSpec(
        sides[default if side is None else side],
        tuple(places),
        (float(first), float(last)),
    )


def capture(denoiser: Denoiser, spec: AttentionMapSpec) -> Denoiser:
    """The denoiser, returning its maps of the spec's size."""
    control = Capture(max_pixels=spec.side[0] * spec.side[1], places=spec.places)
    return dataclasses.replace(denoiser, controls=(*denoiser.controls, control))


def make_post(
    spec: AttentionMapSpec, rows: int, terms: int, images: int, tokens: int
) -> tuple[Post, TermMaps]:
    """(a post of `sample_with_state` that averages the maps, the initial maps).

    A term's map is the mean over rows, sites and heads; 0 for a model without text
    conditioning.
    """
    first, last = round(spec.steps[0] * rows), round(spec.steps[1] * rows)
    count = max(1, last - first)

    def post(i: Int[Array, ""], x: Latents, maps: Mapping[Any, Any], mean: TermMaps):
        counts = (i >= first) & (i < first + count)
        current = jnp.stack(
            [mean_map(maps[j], spec) if maps[j] else mean[j] * 0 for j in sorted(maps)]
        )
        return x, mean + jnp.where(counts, current / count, 0)

    return post, jnp.zeros((terms, images, *spec.side, tokens))


def mean_map(
    captured: Mapping[str, Probs], spec: AttentionMapSpec
) -> Float[Array, "b y x n"]:
    """The mean over heads, and over the sites with maps of the spec's size."""
    pixels = spec.side[0] * spec.side[1]
    means = [
        probs.mean(axis=1) for probs in captured.values() if probs.shape[2] == pixels
    ]
    mean = jnp.stack(means).mean(axis=0)
    return mean.reshape(mean.shape[0], *spec.side, -1)


def of_word(
    maps: Float[Array | np.ndarray, "b y x n"], positions: Sequence[int]
) -> Float[Array | np.ndarray, "b y x"]:
    """A word's map: the mean over its tokens, which have these positions."""
    return maps[..., np.asarray(positions)].mean(axis=-1)


def strength(
    maps: Float[Array, "b y x"], region: Bool[Array, "b y x"]
) -> Float[Array, " b"]:
    """A word's mean probability inside a region, not normalised.

    The cross-attention activation of Huang et al. 2024, sec. 3, who give no formula.
    `region` is a segmentation at the maps' size, or `object_region` of the pretrained
    model's map for the same seed.
    """
    inside = jnp.where(region, maps, 0).sum(axis=(1, 2))
    return inside / jnp.maximum(region.sum(axis=(1, 2)), 1)


def object_region(maps: Float[Array, "b y x"]) -> Bool[Array, "b y x"]:
    """Where a word's map exceeds half of its maximum."""
    return maps > 0.5 * maps.max(axis=(1, 2), keepdims=True)

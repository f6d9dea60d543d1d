"""Where words look: cross-attention maps of a sampling, summed up as it goes."""

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

Heat = Float[Array, "j b y x n"]


@struct.dataclass
class AttentionMapSpec:
    """Which maps are averaged, by default those of Prompt-to-Prompt's release.

    Those are the ones at a quarter of the latents' side: 16 at 64. Below 8, where
    nothing could be seen, the next larger side that there is: the embedded base's 8.
    `steps` are the first and the last row of the sampling that count, as shares of
    them all.
    """

    side: tuple[int, int] = struct.field(pytree_node=False)  # rows, columns
    places: tuple[str, ...] = struct.field(pytree_node=False, default=("down", "up"))
    steps: tuple[float, float] = struct.field(pytree_node=False, default=(0.0, 1.0))


def make_look(
    denoiser: Denoiser,
    shape: tuple[int, int, int],
    *,
    side: int = 0,
    places: Sequence[str] = ("down", "up"),
    steps: tuple[float, float] = (0.0, 1.0),
) -> AttentionMapSpec:
    """What to look at for latents of `shape`; `side` are the rows of a map, 0 chooses.

    Raises ValueError where no site has maps of that side at those places, naming the
    sides that there are, and for shares of the steps that are none.
    """
    unknown = [place for place in places if place not in ("down", "mid", "up")]
    if unknown or not places:
        raise ValueError(f"The places {tuple(places)} are not all of: down, mid, up.")
    if not 0 <= steps[0] < steps[1] <= 1:
        raise ValueError(f"The steps {steps} are no range of shares, such as (0, 0.8).")
    config = denoiser.spec.unet
    rows = {each[0]: each for each in map_sides(config, *shape[:2], places)}
    if side and side not in rows:
        names = ", ".join(map(str, sorted(rows)))
        raise ValueError(f"No map at {', '.join(places)} has side {side}: {names}.")
    least = max(shape[0] / 4, 8)
    wanted = side or min((row for row in rows if row >= least), default=max(rows))
    return AttentionMapSpec(
        rows[wanted], tuple(places), (float(steps[0]), float(steps[1]))
    )


def capture(denoiser: Denoiser, look: AttentionMapSpec) -> Denoiser:
    """The denoiser that hands out the maps to look at."""
    rule = Capture(most=look.side[0] * look.side[1], places=look.places)
    return denoiser.replace(controls=(*denoiser.controls, rule))


def make_post(
    look: AttentionMapSpec, rows: int, terms: int, images: int, tokens: int
) -> tuple[Post, Heat]:
    """(a `walk` post that adds each row's maps to a mean, what it starts with).

    A term's map is the mean over sites and heads, and 0 of a model that reads no text.
    """
    first, last = round(look.steps[0] * rows), round(look.steps[1] * rows)
    count = max(1, last - first)

    def post(i: Int[Array, ""], x: Latents, maps: Mapping[Any, Any], heat: Heat):
        counts = (i >= first) & (i < first + count)
        seen = jnp.stack(
            [mean_map(maps[j], look) if maps[j] else heat[j] * 0 for j in sorted(maps)]
        )
        return x, heat + jnp.where(counts, seen / count, 0)

    return post, jnp.zeros((terms, images, *look.side, tokens))


def mean_map(
    captured: Mapping[str, Probs], look: AttentionMapSpec
) -> Float[Array, "b y x n"]:
    """The mean over heads and over the sites that have maps of the look's side."""
    pixels = look.side[0] * look.side[1]
    found = [
        probs.mean(axis=1) for probs in captured.values() if probs.shape[2] == pixels
    ]
    mean = jnp.stack(found).mean(axis=0)
    return mean.reshape(mean.shape[0], *look.side, -1)


def word(
    heat: Float[Array | np.ndarray, "b y x n"], at: Sequence[int]
) -> Float[Array | np.ndarray, "b y x"]:
    """A word's own map: the mean over its tokens, which stand `at` these positions."""
    return heat[..., np.asarray(at)].mean(axis=-1)


def strength(
    heat: Float[Array, "b y x"], region: Bool[Array, "b y x"]
) -> Float[Array, " b"]:
    """A word's mean probability inside its object's region, not normalised.

    The cross-attention activation of Huang et al. 2024, sec. 3, who give no formula.
    `region` is a segmentation at the maps' side, or `object_region` of the pretrained
    model's map for the same seed.
    """
    inside = jnp.where(region, heat, 0).sum(axis=(1, 2))
    return inside / jnp.maximum(region.sum(axis=(1, 2)), 1)


def object_region(heat: Float[Array, "b y x"]) -> Bool[Array, "b y x"]:
    """Where a word's map has more than half of its largest value."""
    return heat > 0.5 * heat.max(axis=(1, 2), keepdims=True)

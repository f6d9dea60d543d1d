"""Sampling from a picture: read it and its mask, encode it, cut the steps."""

import dataclasses

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from personax.core import images
from personax.core.typing import Params
from personax.diffusion.encode import encode_pictures
from personax.diffusion.img2img import Picture
from personax.diffusion.solvers import Grid
from personax.diffusion.spec import Spec
from personax.networks import vae
from personax.sampling.setup import SamplingSetup


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """The picture to start from, and where to repaint it.

    `strength` is the share of the steps taken; None is 0.6, and 1 with a mask.
    """

    image: str
    mask: str | None = None
    strength: float | None = None

    @property
    def share(self) -> float:
        if self.strength is not None:
            return self.strength
        return 0.6 if self.mask is None else 1.0

    @property
    def metadata(self) -> dict[str, str | float]:
        mask = {} if self.mask is None else {"Mask": self.mask}
        return {"Image": self.image, **mask, "Denoising strength": self.share}


def start_from_picture(
    setup: SamplingSetup, options: PictureOptions
) -> tuple[SamplingSetup, Picture]:
    """The setup with the steps that are taken, and the encoded picture.

    Raises FileNotFoundError, or ValueError for a file that is not a picture, a mask of
    another size or without a marked cell, or a strength below one step.
    """
    sampler, spec = setup.sampler, setup.sampler.spec
    grid = tail(sampler.grid, setup.options.steps, options.share)
    pixels, repaint = images.read_image(options.image), None
    if options.mask is not None:
        mask = images.read_image(options.mask)
        if mask.shape != pixels.shape:
            sides = [f"{x.shape[1]}x{x.shape[0]}" for x in (mask, pixels)]
            raise ValueError(
                f"The mask {options.mask} has {sides[0]} pixels and the picture "
                f"{options.image} {sides[1]}."
            )
        marked = (images.fit(mask, setup.size).mean(axis=-1) + 1) / 2
        repaint = to_latents(marked, spec.vae.factor)
    # Repainting from the schedule's first step on starts from noise alone.
    noised = repaint is None or len(grid.t) < len(sampler.grid.t)
    fitted = images.fit(pixels, setup.size)
    picture = encode(sampler.vae, spec, fitted, repaint, noised=noised)
    sampler = dataclasses.replace(sampler, grid=grid)
    return dataclasses.replace(setup, sampler=sampler), picture


def tail(grid: Grid, steps: int, strength: float) -> Grid:
    """The last int(steps * strength) solver steps, as diffusers counts them.

    Raises ValueError if there is none.
    """
    taken = int(steps * strength)
    if not taken:
        raise ValueError(
            f"--strength {strength:g} of {steps} steps is less than one step; it must "
            f"be at least {1 / steps:g}."
        )
    return grid.tail(steps - taken)


def to_latents(
    mask: Float[np.ndarray, "height width"], factor: int
) -> Float[np.ndarray, "1 h w 1"]:
    """1 for latent cells with at least half of their pixels marked, else 0.

    Raises ValueError if no cell is marked.
    """
    height, width = mask.shape
    cells = mask.reshape(height // factor, factor, width // factor, factor)
    marked = cells.mean(axis=(1, 3)) >= 0.5
    if not marked.any():
        raise ValueError(
            "The mask marks nothing to repaint: white is repainted and black is kept, "
            f"in cells of {factor}x{factor} pixels, none of which is half white."
        )
    return marked[None, :, :, None].astype(np.float32)


def encode(
    params: Params,
    spec: Spec,
    pixels: Float[np.ndarray, "height width 3"],
    repaint: Float[np.ndarray, "1 h w 1"] | None = None,
    *,
    noised: bool = True,
) -> Picture:
    """The picture as latents: the mean of the autoencoder's posterior."""
    posterior = encode_pictures(
        params, jnp.asarray(pixels)[None], config=spec.vae, compute=spec.compute
    )
    z0 = vae.scale(spec.vae, posterior.mean)
    return Picture(z0, None if repaint is None else jnp.asarray(repaint), noised)

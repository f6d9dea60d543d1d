"""DDIM and null-text inversion of a real picture, and how well it is reconstructed."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from personax.core import images
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.core.typing import Params
from personax.diffusion import paired
from personax.diffusion.denoiser import Denoiser
from personax.diffusion.guidance import guide
from personax.diffusion.null_text_inversion import optimise, psnr
from personax.diffusion.paired import Stream
from personax.diffusion.sampling import invert_path
from personax.diffusion.solvers import Grid, ddim
from personax.sampling.img2img import encode
from personax.sampling.sampler import decode_latents


class InvertedImage(NamedTuple):
    """A real picture, inverted."""

    pixels: Pixels  # at the base's size
    start: Float[Array, "1 h w c"]  # the noise at the start of the grid
    null: Float[Array, "s 1 n d"] | None  # the unconditional text of each step
    reconstructions: dict[str, Pixels]  # {method: picture}


def invert_picture(
    params: Params,
    denoisers: Mapping[str, Denoiser],
    source: Stream,
    grid: Grid,
    picture: Float[np.ndarray, "height width 3"],
    *,
    null_text: bool = True,
) -> InvertedImage:
    """Invert a picture in [-1, 1] for `source` and DDIM over `grid`.

    DDIM inversion of the conditional prediction alone, from the mean of the posterior
    of the autoencoder `params`; with `null_text`, also the unconditional texts that
    guide DDIM back along its path (Mokady et al. 2023).
    """
    spec = denoisers[source.terms[0].denoiser].spec
    conditional = [
        dataclasses.replace(term, weight=jnp.ones(())) for term in source.terms[1:]
    ]

    @jax.jit
    def invert(denoisers, terms, grid, z0):
        return invert_path(guide(denoisers, terms), grid, z0)

    with Progress(total=3, unit="stage", desc="inverting") as progress:
        z0 = encode(params, spec, picture).z0
        path = invert(denoisers, conditional, grid, z0).block_until_ready()
        progress.update()
        draw = jax.jit(functools.partial(paired.draw, solver=ddim()))
        replay = draw(denoisers, [source], grid=grid, x=path[0])[0]
        progress.update()
        null = None
        if null_text:
            null = jax.jit(optimise)(denoisers, source.terms, grid, path).text
            null.block_until_ready()
        progress.update()
    reconstructions = {
        method: np.asarray(decode_latents(spec, params, latents))[0]
        for method, latents in (("autoencoder", z0), ("DDIM inversion", replay))
    }
    return InvertedImage(images.to_uint8(picture), path[0], null, reconstructions)


def reconstruction_psnr(image: InvertedImage, replayed: Pixels) -> dict[str, float]:
    """{method: PSNR to the picture in dB}.

    `replayed` is what the source draws with the image's unconditional texts.
    """
    pictures = dict(image.reconstructions)
    if image.null is not None:
        pictures["null-text inversion"] = replayed
    return {method: psnr(image.pixels, pixels) for method, pixels in pictures.items()}

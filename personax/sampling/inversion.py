"""A real picture as the noise that it comes from, and what that gives back."""

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
from personax.diffusion import p2p
from personax.diffusion.denoiser import Denoiser
from personax.diffusion.guidance import guide
from personax.diffusion.null_text_inversion import optimise, psnr
from personax.diffusion.p2p import Stream
from personax.diffusion.sampling import invert_path
from personax.diffusion.solvers import Grid, ddim
from personax.networks import vae
from personax.sampling.sampler import decode_latents


class InvertedImage(NamedTuple):
    """A real picture, inverted."""

    pixels: Pixels  # of the base's size
    start: Float[Array, "1 h w c"]  # the noise that it comes from
    null: Float[Array, "s 1 n d"] | None  # the empty prompt of each step
    shown: dict[str, Pixels]  # {what: the picture that it gives back}


def invert_picture(
    params: Params,
    denoisers: Mapping[str, Denoiser],
    source: Stream,
    grid: Grid,
    picture: Float[np.ndarray, "height width 3"],
    *,
    null_text: bool = True,
) -> InvertedImage:
    """The picture, in [-1, 1], as `source` would draw it by DDIM over `grid`.

    DDIM inversion with the conditional prediction alone, from the mean of the
    autoencoder's posterior (`params` are the autoencoder's); then with `null_text` the
    empty prompts that lead back along its path (Mokady et al. 2023).
    """
    spec = denoisers[source.terms[0].denoiser].spec
    alone = [term.replace(weight=jnp.ones(())) for term in source.terms[1:]]

    @jax.jit
    def encode(params: Params, picture: Float[Array, "1 height width 3"]):
        posterior = vae.encode(params, spec.vae, picture, compute=spec.compute)
        return vae.scale(spec.vae, posterior.mean)

    @jax.jit
    def invert(denoisers, terms, grid, z0):
        return invert_path(guide(denoisers, terms), grid, z0)

    with Progress(total=3, unit="stage", desc="inverting") as progress:
        z0 = encode(params, picture[None])
        path = invert(denoisers, alone, grid, z0).block_until_ready()
        progress.update()
        draw = jax.jit(functools.partial(p2p.draw, solver=ddim()))
        replay = draw(denoisers, [source], grid=grid, x=path[0])[0]
        progress.update()
        null = None
        if null_text:
            null = jax.jit(optimise)(denoisers, source.terms, grid, path).text
            null.block_until_ready()
        progress.update()
    shown = {
        what: np.asarray(decode_latents(spec, params, latents))[0]
        for what, latents in (("autoencoder", z0), ("DDIM inversion", replay))
    }
    return InvertedImage(images.to_uint8(picture), path[0], null, shown)


def reconstruction_psnr(photo: InvertedImage, replayed: Pixels) -> dict[str, float]:
    """{what: how near it comes to the picture, PSNR in dB}.

    `replayed` is what the source draws with the photo's own empty prompts.
    """
    shown = dict(photo.shown)
    if photo.null is not None:
        shown["null-text inversion"] = replayed
    return {what: psnr(photo.pixels, shown[what]) for what in shown}

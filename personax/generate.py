"""From guidance terms to pictures: the two compiled halves that every command uses."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from personax.denoiser import Denoiser
from personax.diffusion.guidance import Term, guide
from personax.diffusion.sampling import image_keys, sample, start_noise
from personax.diffusion.solvers import Grid, Solver
from personax.networks import vae
from personax.spec import Spec
from personax.typing import Key, Latents, Params

Decode = Literal["whole", "sliced", "tiled"]
_DECODE = {
    "whole": vae.decode,
    "sliced": vae.decode_sliced,
    "tiled": vae.decode_tiled,
}

# The network and start of an image use keys of their own, or the first step's fresh
# noise would repeat the start.
_START, _STEPS = 0, 1


def make_draw(solver: Solver, shape: tuple[int, int, int]) -> Callable[..., Latents]:
    """A jitted `(denoisers, terms, grid, key, indices) -> latents` of that (h, w, c).

    Image i depends on the key and on its own index, not on the batch that it is in.
    Terms, weights and grid are arguments: other prompts and numbers compile nothing.
    """

    def draw(
        denoisers: Mapping[str, Denoiser],
        terms: Sequence[Term],
        grid: Grid,
        key: Key,
        indices: Int[Array, " b"],
    ) -> Latents:
        x = grid.start * start_noise(jax.random.fold_in(key, _START), indices, shape)
        keys = image_keys(jax.random.fold_in(key, _STEPS), indices)
        return sample(guide(denoisers, terms), solver, grid, x, keys)

    return jax.jit(draw)


def make_decode(
    spec: Spec, how: Decode = "whole"
) -> Callable[[Params, Latents], UInt8[Array, "b height width channels"]]:
    """A jitted `(autoencoder parameters, latents) -> uint8 pictures`."""

    def decode(params: Params, latents: Latents):
        images = _DECODE[how](params, spec.vae, latents, compute=spec.compute)
        return to_pixels(images)

    return jax.jit(decode)


def to_pixels(
    images: Float[Array, "b height width channels"],
) -> UInt8[Array, "b height width channels"]:
    """[-1, 1] to 0 … 255, rounded and clipped."""
    return jnp.round(jnp.clip(images / 2 + 0.5, 0, 1) * 255).astype(jnp.uint8)

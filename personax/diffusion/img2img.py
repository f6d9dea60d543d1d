"""Sampling from a picture: noised (SDEdit), or repainted where a mask says."""

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float

from personax.core.typing import Latents
from personax.diffusion.denoiser import Denoiser, with_extra
from personax.diffusion.sampling import Post
from personax.diffusion.solvers import Grid


@struct.dataclass
class Picture:
    """Latents of a picture, and a mask: 1 is repainted, 0 is kept.

    Without `repaint` the whole picture is denoised again (Meng et al. 2022, "SDEdit").
    With `noised` False sampling starts from noise alone, as for repainting from the
    schedule's first step. `masked` are the latents of the picture without what is
    repainted, for an inpainting UNet, which reads them and the mask.
    """

    z0: Float[Array, "1 h w c"]
    repaint: Float[Array, "1 h w 1"] | None = None
    noised: bool = struct.field(pytree_node=False, default=True)
    masked: Float[Array, "1 h w c"] | None = None


def begin(picture: Picture | None, grid: Grid, noise: Latents) -> Latents:
    """x before the first row: scaled `noise`, or the picture noised to its rates."""
    if picture is None or not picture.noised:
        return grid.start * noise
    return grid.signal[0] * picture.z0 + grid.noise[0] * noise


def inpaint(denoiser: Denoiser, picture: Picture) -> Denoiser:
    """The inpainting denoiser of this picture; it may change all latents."""
    repaint, masked = picture.repaint, picture.masked
    assert repaint is not None
    assert masked is not None
    return with_extra(denoiser, jnp.concatenate([repaint, masked], axis=-1))


def keep(picture: Picture, grid: Grid, noise: Latents) -> Post:
    """A post of `sampling.sample` that restores the picture outside the mask.

    After each row, x there is the picture with its initial noise at the row's next
    rates; after the last row, without noise. diffusers' StableDiffusionInpaintPipeline
    does the same with a UNet that has no mask input.
    """
    repaint = picture.repaint
    assert repaint is not None
    last = grid.t.shape[0] - 1
    signal = grid.next_signal.at[last].set(1.0)
    noise_rate = grid.next_noise.at[last].set(0.0)

    def post(i, x, maps, carry):
        known = signal[i] * picture.z0 + noise_rate[i] * noise
        return repaint * x + (1 - repaint) * known, carry

    return post


def both(first: Post, second: Post) -> Post:
    """`first`, which has the carry, then `second`, which has no carry."""

    def post(i, x, maps, carry):
        x, carry = first(i, x, maps, carry)
        return second(i, x, maps, None)[0], carry

    return post

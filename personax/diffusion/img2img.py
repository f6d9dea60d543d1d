"""Drawing that begins with a picture: noised (SDEdit), or repainted in places."""

from flax import struct
from jaxtyping import Array, Float

from personax.core.typing import Latents
from personax.diffusion.sampling import Post
from personax.diffusion.solvers import Grid


@struct.dataclass
class Picture:
    """Latents of a picture, and where they are repainted: 1, or kept: 0.

    Without `repaint` all of it is drawn anew from the noised picture (Meng et al. 2022,
    "SDEdit"). `noised` False begins with noise alone, as for a repainting from the
    schedule's first step.
    """

    z0: Float[Array, "1 h w c"]
    repaint: Float[Array, "1 h w 1"] | None = None
    noised: bool = struct.field(pytree_node=False, default=True)


def begin(picture: Picture | None, grid: Grid, noise: Latents) -> Latents:
    """x before the first row: unit `noise`, or the picture noised to its rates."""
    if picture is None or not picture.noised:
        return grid.start * noise
    return grid.signal[0] * picture.z0 + grid.noise[0] * noise


def keep(picture: Picture, grid: Grid, noise: Latents) -> Post:
    """A `walk` post after which x is the picture itself wherever it is not repainted.

    After each row that is the picture with the noise it began with, at the rates that
    the row leads to; after the last one without any. So diffusers'
    StableDiffusionInpaintPipeline repaints with an ordinary UNet.
    """
    last = grid.t.shape[0] - 1
    signal = grid.next_signal.at[last].set(1.0)
    posterior_std = grid.next_noise.at[last].set(0.0)

    def post(i, x, maps, carry):
        known = signal[i] * picture.z0 + posterior_std[i] * noise
        return picture.repaint * x + (1 - picture.repaint) * known, carry

    return post


def both(first: Post, second: Post) -> Post:
    """`first`, which has the carry, then `second`, which has none."""

    def post(i, x, maps, carry):
        x, carry = first(i, x, maps, carry)
        return second(i, x, maps, None)[0], carry

    return post

"""Pictures that the command line hands in: one to begin with, and where to repaint."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float

from personax.cli.sampling_flags import Drawing
from personax.core import images
from personax.core.typing import Params
from personax.diffusion.img2img import Picture
from personax.diffusion.solvers import Grid
from personax.diffusion.spec import Spec
from personax.networks import vae


def define_flags() -> None:
    """The flags of pictures that a drawing begins with; `begin` reads them."""
    text = flags.DEFINE_string
    text("image", None, "A picture to begin with: it is noised and drawn anew.")
    text("mask", None, "Where --image is repainted: white; black is kept.")
    flags.DEFINE_float(
        "strength",
        None,
        "The share of the steps that are taken, from the noised --image on. Default: "
        "0.6, with --mask 1.",
        0.0,
        1.0,
    )


def begin(given: Any, plan: Drawing) -> tuple[Drawing, Picture | None]:
    """The drawing with the steps that are taken, and the picture that it begins with.

    Raises FileNotFoundError or ValueError in one sentence.
    """
    if given.image is None:
        for name in ("mask", "strength"):
            if getattr(given, name) is not None:
                raise ValueError(f"--{name} is about a picture: give an --image too.")
        return plan, None
    grid = tail(plan.grid, given.steps, _strength(given))
    size = plan.height, plan.width
    pixels, share = read_picture(given.image, given.mask, size)
    repaint = None if share is None else to_latents(share, plan.spec.vae.factor)
    # Nothing of what is repainted from the first step on need be known.
    noised = repaint is None or len(grid.t) < len(plan.grid.t)
    picture = encode(plan.base.params["vae"], plan.spec, pixels, repaint, noised=noised)
    return plan._replace(grid=grid), picture


def settings(given: Any) -> dict[str, Any]:
    """What a picture's metadata says of the one that it began with."""
    if given.image is None:
        return {}
    mask = {"Mask": given.mask} if given.mask is not None else {}
    return {"Image": given.image, **mask, "Denoising strength": _strength(given)}


def _strength(given: Any) -> float:
    default = 0.6 if given.mask is None else 1.0
    return default if given.strength is None else given.strength


def tail(grid: Grid, steps: int, strength: float) -> Grid:
    """The last `strength` of the solver's steps, whole ones, as diffusers counts them.

    Raises ValueError where none is left.
    """
    taken = int(steps * strength)
    if not taken:
        raise ValueError(
            f"--strength {strength:g} of {steps} steps is not one step; it must be at "
            f"least {1 / steps:g}."
        )
    return grid.tail(steps - taken)


def read_picture(
    image: str, mask: str | None, size: tuple[int, int]
) -> tuple[
    Float[np.ndarray, "height width 3"], Float[np.ndarray, "height width"] | None
]:
    """The picture in [-1, 1], cut to that (height, width), and the mask cut alike.

    The mask is 1 where it is white. Raises FileNotFoundError or ValueError in one
    sentence for files that are no pictures and a mask of another size.
    """
    pixels = images.read_image(image)
    if mask is None:
        return images.fit(pixels, size), None
    marked = images.read_image(mask)
    if marked.shape != pixels.shape:
        sides = [f"{x.shape[1]}x{x.shape[0]}" for x in (marked, pixels)]
        raise ValueError(
            f"The mask {mask} has {sides[0]} pixels and the picture {image} {sides[1]}."
        )
    share = (images.fit(marked, size).mean(axis=-1) + 1) / 2
    return images.fit(pixels, size), share


def to_latents(
    share: Float[np.ndarray, "height width"], factor: int
) -> Float[np.ndarray, "1 h w 1"]:
    """1 for latents half of whose pixels are marked, else 0.

    Raises ValueError where no cell is marked.
    """
    height, width = share.shape
    cells = share.reshape(height // factor, factor, width // factor, factor)
    marked = cells.mean(axis=(1, 3)) >= 0.5
    if not marked.any():
        raise ValueError(
            "The mask marks nothing to repaint: white is repainted and black is kept, "
            f"in cells of {factor}x{factor} pixels, of which none is half white."
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
    """The picture as latents: the mean of the posterior of the autoencoder `params`."""

    @jax.jit
    def run(params, pixels):
        posterior = vae.encode(params, spec.vae, pixels, compute=spec.compute)
        return vae.scale(spec.vae, posterior.mean)

    z0 = run(params, jnp.asarray(pixels)[None])
    return Picture(z0, None if repaint is None else jnp.asarray(repaint), noised)


def read_prompts(path: str) -> list[str]:
    """One prompt a line; empty lines and those that begin with # are left out.

    Raises FileNotFoundError or ValueError in one sentence for a file without any.
    """
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"There is no file of prompts {path}.")
    try:
        lines = [line.strip() for line in file.read_text().splitlines()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text: {error}.")
    found = [line for line in lines if line and not line.startswith("#")]
    if not found:
        raise ValueError(f"{path} has no line with a prompt.")
    return found

"""Sampling from a picture: read it and its mask, encode it, cut the steps."""

import dataclasses
import os

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from personax.core import images
from personax.core.images import Mask, Pixels
from personax.core.typing import Params
from personax.diffusion.encode import encode_pictures
from personax.diffusion.img2img import Picture
from personax.diffusion.solvers import Grid
from personax.diffusion.spec import Spec
from personax.loading import Base
from personax.networks import vae
from personax.sampling.setup import SamplingSetup

Source = str | os.PathLike[str] | np.ndarray


@dataclasses.dataclass(frozen=True)
class PictureOptions:
    """The picture to start from, and where to repaint it: files or uint8 RGB arrays.

    `strength` is the share of the steps taken; None is 0.6, and 1 with a mask.
    """

    image: Source
    mask: Source | None = None
    strength: float | None = None

    @property
    def share(self) -> float:
        if self.strength is not None:
            return self.strength
        return 0.6 if self.mask is None else 1.0

    @property
    def metadata(self) -> dict[str, str | float]:
        mask = {} if self.mask is None else {"Mask": str(self.mask)}
        return {"Image": str(self.image), **mask, "Denoising strength": self.share}


def start_from_picture(
    setup: SamplingSetup, options: PictureOptions | None
) -> tuple[SamplingSetup, Picture | None]:
    """The setup with the steps that are taken, and the encoded picture.

    Without options both stay as they are. Raises FileNotFoundError, or ValueError for a
    file that is not a picture, a mask of another size or without a marked cell, a
    strength below one step, or an inpainting model without a picture and a mask.
    """
    sampler, spec = setup.sampler, setup.sampler.spec
    if spec.inpaints and (options is None or options.mask is None):
        raise ValueError(
            f"{setup.loaded.base.name} is an inpainting model: it needs a picture and "
            "a mask, --image FILE --mask FILE, whose white part is repainted."
        )
    if options is None:
        return setup, None
    grid = tail(sampler.grid, setup.options.steps, options.share)
    pixels, marked = _read(options.image), None
    if options.mask is not None:
        mask = _read_mask(options.mask)
        if mask.shape != pixels.shape[:2]:
            sides = [f"{x.shape[1]}x{x.shape[0]}" for x in (mask, pixels)]
            raise ValueError(
                f"The mask{_name(options.mask)} has {sides[0]} pixels and the picture"
                f"{_name(options.image)} {sides[1]}."
            )
        marked = (images.fit(mask, setup.size) + 1) / 2
    # Repainting from the schedule's first step on starts from noise alone.
    noised = marked is None or len(grid.t) < len(sampler.grid.t)
    fitted = images.fit(pixels, setup.size)
    if spec.inpaints:
        assert marked is not None
        picture = encode_masked(sampler.vae, spec, fitted, marked, noised=noised)
    else:
        repaint = None if marked is None else to_latents(marked, spec.vae.factor)
        picture = encode(sampler.vae, spec, fitted, repaint, noised=noised)
    sampler = dataclasses.replace(sampler, grid=grid)
    return dataclasses.replace(setup, sampler=sampler), picture


def whole_picture(params: Params, spec: Spec, size: tuple[int, int]) -> Picture | None:
    """What an inpainting model reads where all of a picture is repainted.

    It then draws as a text-to-image model does. None for other models.
    """
    if not spec.inpaints:
        return None
    return encode_masked(
        params, spec, np.zeros((*size, 3), np.float32), np.ones(size, np.float32)
    )


def require_text_to_image(base: Base, user: str) -> None:
    """Raise ValueError for an inpainting base, which `user` cannot sample from."""
    if base.spec.inpaints:
        raise ValueError(
            f"{base.name} is an inpainting model, which needs a picture and a mask; "
            f"{user} has none and needs a text-to-image base."
        )


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
    return _marked(cells.mean(axis=(1, 3)) >= 0.5, factor)


def encode_masked(
    params: Params,
    spec: Spec,
    pixels: Float[np.ndarray, "height width 3"],
    mask: Float[np.ndarray, "height width"],
    *,
    noised: bool = False,
) -> Picture:
    """The picture, and without what is masked, for an inpainting model.

    As diffusers' StableDiffusionInpaintPipeline: pixels of a mask of at least 0.5
    become 0, grey, and a latent cell is marked as its first pixel is. Of both
    posteriors the mean is taken. Raises ValueError if no cell is marked.
    """
    factor, inside = spec.vae.factor, mask >= 0.5
    repaint = _marked(inside[::factor, ::factor], factor)
    visible = np.where(inside[..., None], np.float32(0), pixels)
    masked = encode(params, spec, visible)
    picture = encode(params, spec, pixels, repaint, noised=noised)
    return dataclasses.replace(picture, masked=masked.z0)


def _marked(
    marked: Bool[np.ndarray, "h w"], factor: int
) -> Float[np.ndarray, "1 h w 1"]:
    """The marked cells as a mask. Raises ValueError if there is none."""
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


def _name(source: Source) -> str:
    """A file's name behind a space, "" for an array."""
    return "" if isinstance(source, np.ndarray) else f" {source}"


def _read(source: Source) -> Pixels:
    if not isinstance(source, np.ndarray):
        return images.read_image(os.fspath(source))
    if source.dtype != np.uint8 or source.ndim != 3 or source.shape[-1] != 3:
        raise ValueError(
            f"A picture must be a file or a uint8 array [height, width, 3]; this array "
            f"is {source.dtype} {list(source.shape)}."
        )
    return source


def _read_mask(source: Source) -> Mask:
    if not isinstance(source, np.ndarray):
        return images.read_mask(os.fspath(source))
    if source.dtype == np.uint8 and source.ndim == 2:
        return source
    return np.round(_read(source).mean(axis=-1)).astype(np.uint8)

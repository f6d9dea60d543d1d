"""Custom Diffusion's size augmentation: smaller or larger, with a caption of it."""

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from personax.core.config import option
from personax.core.images import Mask, Pixels, to_float

AUGMENT = ("none", "paper", "compvis", "huggingface")
CROP = ("centre", "random", "squash")
WORDS = ("append", "prefix")


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """How few pictures and their captions vary, a config's `data`; see `view`."""

    augment: str = option("none", choices=AUGMENT)
    crop: str | None = option(None, choices=CROP)  # None: the augmentation's own
    flip: bool = False
    words: str | None = option(None, choices=WORDS)
    shrink: tuple[float, float] | None = option(None, above=0, most=1)
    caption_dropout: float = option(0.0, least=0, below=1)  # to the empty caption
    cut_mix: float = option(0.0, least=0, most=1)  # another concept beside this one
    cut_mix_prompt: str = "a photo of a {} and a {}"

    def __post_init__(self):
        if self.shrink and self.shrink[0] > self.shrink[1]:
            raise ValueError(
                f"data.shrink={self.shrink}: expected (smallest, largest)."
            )

    def off(self) -> "Augmentation":
        """The deterministic part: pictures are only cropped and resized."""
        return Augmentation(crop=None if self.crop == "random" else self.crop)


class View(NamedTuple):
    """A picture as one step sees it."""

    # float32 in [-1, 1]; 0, mid-grey, around a paste
    pixels: Float[np.ndarray, "h w 3"]
    mask: Float[np.ndarray, "y x"]  # per latent cell; 1 where the loss counts
    caption: str


class _Preset(NamedTuple):
    shrinks: float  # probability of a side within the canvas
    shrink: tuple[float, float] | None  # shares of the canvas; None: S // 3 to S
    fills: bool  # from 0.6 of the canvas on, the picture fills it
    even: bool  # odd sides grow by one
    crop: str
    words: str
    resample: Image.Resampling


_BICUBIC, _BILINEAR = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR
_PRESETS = {
    "paper": _Preset(2 / 3, (0.4, 1.0), False, False, "centre", "append", _BICUBIC),
    "compvis": _Preset(2 / 3, None, True, True, "centre", "prefix", _BICUBIC),
    "huggingface": _Preset(0.66, None, False, False, "squash", "prefix", _BILINEAR),
}

# As in the releases, in front of the caption.
_FAR, _NEAR = ("a far away", "very small"), ("zoomed in", "close up")
_SMALL = 0.6  # below this share of the canvas the caption gets such words


def view(
    rng: np.random.Generator,
    pixels: Pixels,
    caption: str,
    size: tuple[int, int],
    factor: int,
    options: Augmentation = Augmentation(),
    mask: Mask | None = None,
) -> View:
    """A picture on a canvas of `size` (height, width), its loss mask and its caption.

    `options.augment` names a preset for S x S canvases; "none" only crops and resizes.

    - "paper" (Kumari et al. 2023, appendix E): with probability 2/3 the picture is
      resized to 0.4 S to S and pasted at a random position; only latent cells inside
      count. Otherwise it is enlarged to 1.2 S to 1.4 S and an S x S part is cropped.
      Below 0.6 S the caption gets ", far away" or ", very small", above S ", zoomed in"
      or ", close up".
    - "compvis" (the authors' release): S // 3 to S, odd sides one more; below 0.6 S as
      above, from there to S the picture fills the canvas. The words come first: "a far
      away photo of a dog". The release also flips, which the dataset does here.
    - "huggingface" (diffusers' script): probability 0.66, squashed instead of cropped,
      bilinear instead of bicubic, pasted up to S; so border cells do not count even for
      a picture as large as the canvas.

    The other options override the preset. `shrink` is the range of the first branch, as
    shares of S. `crop`: "centre" and "random" keep the largest part of the canvas'
    aspect, "squash" keeps everything. `words`: "append" or "prefix". `factor` is the
    pixels per latent cell.

    A paste counts from one cell inside its edge, so that no cell overlaps grey; where
    that would leave no cell, from its edge. Sides of at least 3 * factor always have
    one. A picture's soft `mask`, of its size, is transformed with it; a cell has the
    mean weight of its pixels.

    Raises ValueError for a canvas that does not fit the preset, and for a range whose
    pastes may contain no cell.
    """
    height, width = size
    everywhere = np.ones((height // factor, width // factor), np.float32)
    if options.augment == "none":
        crop = options.crop or "centre"
        canvas, soft = _resize(rng, pixels, mask, size, crop, _BICUBIC)
        return View(canvas, everywhere * _cells(soft, factor), caption)
    if height != width:
        raise ValueError(
            f"augment={options.augment!r} needs a square canvas, not {width}x{height} "
            'pixels; "none" takes any.'
        )

    preset, whole = _PRESETS[options.augment], height
    within = _range(options.shrink or preset.shrink, whole, factor)
    if rng.random() < preset.shrinks:
        side = int(rng.integers(*within, endpoint=True))
    else:
        side = int(rng.integers(int(1.2 * whole), int(1.4 * whole)))
    side += side % 2 if preset.even else 0
    small, large = side < _SMALL * whole, side > whole
    if small or large:
        distance = (_FAR if small else _NEAR)[rng.integers(2)]
        if (options.words or preset.words) == "prefix":
            caption = f"{distance} {caption}"
        else:  # Only in front of the caption does the article have a noun.
            caption = f"{caption}, {distance.removeprefix('a ')}"
    fills = preset.fills and not small and not large
    side = whole if fills else side
    crop = options.crop or preset.crop
    picture, soft = _resize(rng, pixels, mask, (side, side), crop, preset.resample)
    y, x = (int(i) for i in rng.integers(abs(whole - side), size=2, endpoint=True))
    if large or fills:
        cut = slice(y, y + whole), slice(x, x + whole)
        return View(picture[cut], everywhere * _cells(soft[cut], factor), caption)
    at = slice(y, y + side), slice(x, x + side)
    canvas, valid = np.zeros((whole, whole, 3), np.float32), np.zeros_like(everywhere)
    canvas[at] = picture
    valid[_inside(y, side, factor), _inside(x, side, factor)] = 1
    if mask is not None:
        pasted = np.zeros((whole, whole), np.float32)
        pasted[at] = soft
        valid = valid * _cells(pasted, factor)
    return View(canvas, valid, caption)


def _range(
    shares: tuple[float, float] | None, whole: int, factor: int
) -> tuple[int, int]:
    """The smallest and the largest side of a picture within the canvas."""
    if shares is None:
        low, high = whole // 3, whole
    elif 0 < shares[0] <= shares[1] <= 1:
        low, high = round(shares[0] * whole), round(shares[1] * whole)
    else:
        raise ValueError(
            f"shrink={shares} is not a range of shares of the canvas, as (0.4, 1.0) is."
        )
    # Any 2 * factor - 1 consecutive pixels contain a whole cell.
    least = 2 * factor - 1
    if low < least:
        raise ValueError(
            f"Pictures of {low} of the canvas' {whole} pixels may contain no "
            f"whole latent cell of {factor}; start shrink at "
            f"{math.ceil(1000 * least / whole) / 1000:g}."
        )
    return low, high


def _resize(
    rng: np.random.Generator,
    pixels: Pixels,
    mask: Mask | None,
    size: tuple[int, int],
    crop: str,
    resample: Image.Resampling,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """The part of the picture in [-1, 1] and of its mask that `crop` keeps, at `size`.

    Without a mask every pixel has weight 1.
    """
    rows, columns = size
    box = crop_box(rng, pixels.shape[:2], size, crop)
    image = Image.fromarray(pixels).resize((columns, rows), resample, box=box)
    soft = np.ones(size, np.float32)
    if mask is not None:
        scaled = Image.fromarray(mask).resize((columns, rows), _BILINEAR, box=box)
        soft = np.asarray(scaled, np.float32) / 255
    return to_float(np.asarray(image)), soft


def crop_box(
    rng: np.random.Generator, shape: tuple[int, int], size: tuple[int, int], crop: str
) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the part that `crop` keeps of a picture.

    `shape` is the picture's (height, width), `size` that of the resized part: "centre"
    and "random" keep the largest part of its aspect, "squash" everything.
    """
    (height, width), (rows, columns) = shape, size
    if crop == "squash":
        return 0.0, 0.0, float(width), float(height)
    zoom = min(height / rows, width / columns)
    # PIL rejects a box that rounding extends past the picture.
    high, wide = min(rows * zoom, height), min(columns * zoom, width)
    top, left = (height - high) / 2, (width - wide) / 2
    if crop == "random":
        # Whole pixels, so that a picture that is not resized keeps its values.
        top, left = rng.integers([int(height - high), int(width - wide)], endpoint=True)
    right, bottom = min(left + wide, width), min(top + high, height)
    return float(left), float(top), float(right), float(bottom)


def _cells(soft: Float[np.ndarray, "h w"], factor: int) -> Float[np.ndarray, "y x"]:
    """The mean over each latent cell's pixels."""
    h, w = soft.shape
    return soft.reshape(h // factor, factor, w // factor, factor).mean((1, 3))


def _inside(start: int, side: int, factor: int) -> slice:
    """The latent cells strictly inside a range of pixels, or else all inside it."""
    stop = (start + side) // factor
    if start // factor + 1 < stop - 1:
        return slice(start // factor + 1, stop - 1)
    return slice(math.ceil(start / factor), stop)

"""Custom Diffusion's size augmentation: smaller or larger, with a caption of it."""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from personax.core.images import Mask, Pixels, to_float

AUGMENT = ("none", "paper", "compvis", "huggingface")
CROP = ("centre", "random", "squash")
WORDS = ("append", "prefix")


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
    *,
    size: tuple[int, int],
    factor: int,
    augment: str = "none",
    crop: str | None = None,
    shrink: tuple[float, float] | None = None,
    words: str | None = None,
    mask: Mask | None = None,
) -> View:
    """A picture on a canvas of `size` (height, width), its loss mask and its caption.

    `augment` names a preset for S x S canvases; "none" only crops and resizes.

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

    Raises ValueError for an unknown name, a canvas that does not fit the preset or the
    latent cells, and a range whose pastes may contain no cell.
    """
    _known("augmentation", augment, AUGMENT)
    _known("crop", crop or CROP[0], CROP)
    _known("words", words or WORDS[0], WORDS)
    height, width = size
    if height % factor or width % factor:
        raise ValueError(
            f"A canvas of {width}x{height} pixels does not divide into latent cells "
            f"of {factor} pixels."
        )
    if mask is not None and mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"A mask of {mask.shape[1]}x{mask.shape[0]} pixels does not fit its "
            f"picture of {pixels.shape[1]}x{pixels.shape[0]}."
        )
    everywhere = np.ones((height // factor, width // factor), np.float32)
    if augment == "none":
        canvas, soft = _resize(rng, pixels, mask, size, crop or "centre", _BICUBIC)
        return View(canvas, everywhere * _cells(soft, factor), caption)
    if height != width:
        raise ValueError(
            f"augment={augment!r} needs a square canvas, not {width}x{height} pixels; "
            '"none" takes any.'
        )

    preset, whole = _PRESETS[augment], height
    side = _side(rng, preset, _range(shrink or preset.shrink, whole, factor), whole)
    small, large = side < _SMALL * whole, side > whole
    if small or large:
        distance = (_FAR if small else _NEAR)[rng.integers(2)]
        caption = _add_words(caption, distance, words or preset.words)
    fills = preset.fills and not small and not large
    side = whole if fills else side
    picture, soft = _resize(
        rng, pixels, mask, (side, side), crop or preset.crop, preset.resample
    )
    y, x = (int(i) for i in rng.integers(abs(whole - side), size=2, endpoint=True))
    if large or fills:
        cut = slice(y, y + whole), slice(x, x + whole)
        return View(picture[cut], everywhere * _cells(soft[cut], factor), caption)
    canvas, valid = np.zeros((whole, whole, 3), np.float32), np.zeros_like(everywhere)
    canvas[y : y + side, x : x + side] = picture
    valid[_inside(y, side, factor), _inside(x, side, factor)] = 1
    if mask is not None:
        pasted = np.zeros((whole, whole), np.float32)
        pasted[y : y + side, x : x + side] = soft
        valid = valid * _cells(pasted, factor)
    return View(canvas, valid, caption)


def _known(what: str, name: str, names: tuple[str, ...]) -> None:
    if name not in names:
        expected = ", ".join(names)
        raise ValueError(f"Unknown {what} {name!r}; expected one of {expected}.")


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


def _side(
    rng: np.random.Generator, preset: _Preset, within: tuple[int, int], whole: int
) -> int:
    if rng.random() < preset.shrinks:
        side = rng.integers(*within, endpoint=True)
    else:
        side = rng.integers(int(1.2 * whole), int(1.4 * whole))
    return int(side + side % 2 if preset.even else side)


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


def _add_words(caption: str, words: str, where: str) -> str:
    if where == "prefix":
        return f"{words} {caption}"
    # Only in front of the caption does the article have a noun.
    return f"{caption}, {words.removeprefix('a ')}"

"""Custom Diffusion's size augmentation: a picture smaller or larger, and said so."""

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
    """What one step sees of a picture."""

    pixels: Float[
        np.ndarray, "h w 3"
    ]  # float32 in [-1, 1]; 0, mid-grey, around a paste
    mask: Float[np.ndarray, "y x"]  # per latent cell; 1 where the loss counts
    caption: str


class _Preset(NamedTuple):
    often: float  # chance of a side within the canvas; otherwise it is enlarged
    shrink: tuple[float, float] | None  # shares of the canvas; None: S // 3 to S
    fills: bool  # from 0.6 of the canvas on, the picture is resized to all of it
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

# As the releases write them, in front of the caption.
_FAR, _NEAR = ("a far away", "very small"), ("zoomed in", "close up")
_SMALL = 0.6  # below this share of the canvas, the words say so


def view(
    rng: np.random.Generator,
    pixels: Pixels,
    caption: str,
    *,
    size: tuple[int, int],
    factor: int,
    augment: str = "none",
    crop: str | None = None,
    flip: bool = False,
    shrink: tuple[float, float] | None = None,
    words: str | None = None,
    mask: Mask | None = None,
) -> View:
    """A picture on a canvas of `size` (height, width), where to learn, what to say.

    `augment` names a preset for S x S canvases; "none" only crops and resizes.

    - "paper" (Kumari et al. 2023, appendix E): 2 times in 3 the picture is resized to
      0.4 S to S and pasted somewhere; only latent cells inside count. Otherwise it is
      enlarged to 1.2 S to 1.4 S and an S x S part is cut out. Below 0.6 S the caption
      gets ", far away" or ", very small", above S ", zoomed in" or ", close up".
    - "compvis" (the authors' release): S // 3 to S, odd sides one more; below 0.6 S as
      above, from there to S the picture fills the canvas. The words go in front: "a far
      away photo of a dog". It also flips, which is `flip` here.
    - "huggingface" (diffusers' script): 66 in 100 instead of 2 in 3, squashed instead
      of cropped, bilinear instead of bicubic, pasted up to S; so the border cells
      count not even for a picture as large as the canvas.

    The other options replace what the preset says. `shrink` is the range of the first
    branch, as shares of S. `crop`: "centre" and "random" keep the largest part of the
    canvas' aspect, "squash" keeps everything. `words`: "append" or "prefix". `flip`
    mirrors one view in two. `factor` is the pixels per latent cell.

    A paste counts from one cell inside its edge, so that no cell has seen grey; where
    that would leave nothing, from its edge. Sides from 3 * factor on never need that:
    at S = 32 and factor 4, as in the embedded base, `shrink` from 0.375, so all of the
    paper's range and all but the least sides of the releases' (10 and 11 pixels). A
    picture's own soft `mask`, as large as it, goes where it goes; a cell counts as much
    as its pixels do on average.

    Raises ValueError for an unknown name, a canvas that the preset cannot fill or that
    is no whole number of cells, and a range whose pastes may miss every cell.
    """
    _known("augmentation", augment, AUGMENT)
    _known("crop", crop or CROP[0], CROP)
    _known("place for the words", words or WORDS[0], WORDS)
    height, width = size
    if height % factor or width % factor:
        raise ValueError(
            f"A canvas of {width}x{height} pixels is no whole number of latent cells "
            f"of {factor} pixels."
        )
    if mask is not None and mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"A mask of {mask.shape[1]}x{mask.shape[0]} pixels is not of the size of "
            f"its picture, {pixels.shape[1]}x{pixels.shape[0]}."
        )
    if flip and rng.random() < 0.5:
        pixels, mask = pixels[:, ::-1], None if mask is None else mask[:, ::-1]
    everywhere = np.ones((height // factor, width // factor), np.float32)
    if augment == "none":
        canvas, soft = _resize(rng, pixels, mask, size, crop or "centre", _BICUBIC)
        return View(canvas, everywhere * _cells(soft, factor), caption)
    if height != width:
        raise ValueError(
            f"The augmentation {augment!r} needs a square canvas, not {width}x{height} "
            'pixels; "none" takes any.'
        )

    preset, whole = _PRESETS[augment], height
    side = _side(rng, preset, _range(shrink or preset.shrink, whole, factor), whole)
    small, large = side < _SMALL * whole, side > whole
    if small or large:
        said = (_FAR if small else _NEAR)[rng.integers(2)]
        caption = _say(caption, said, words or preset.words)
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
        raise ValueError(f"There is no {what} {name!r}; there are {', '.join(names)}.")


def _range(
    shares: tuple[float, float] | None, whole: int, factor: int
) -> tuple[int, int]:
    """The least and the largest side of a picture that stays within the canvas."""
    if shares is None:
        low, high = whole // 3, whole
    elif 0 < shares[0] <= shares[1] <= 1:
        low, high = round(shares[0] * whole), round(shares[1] * whole)
    else:
        raise ValueError(
            f"shrink={shares} is no range of shares of the canvas, such as (0.4, 1.0)."
        )
    # Any stretch of 2 * factor - 1 pixels holds a whole cell, wherever it starts.
    least = 2 * factor - 1
    if low < least:
        raise ValueError(
            f"Pictures of {low} of the canvas' {whole} pixels may hold no whole latent "
            f"cell of {factor}; let shrink begin at "
            f"{math.ceil(1000 * least / whole) / 1000:g}."
        )
    return low, high


def _side(
    rng: np.random.Generator, preset: _Preset, within: tuple[int, int], whole: int
) -> int:
    if rng.random() < preset.often:
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

    Without a mask everything counts.
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

    `shape` is the picture's (height, width), `size` the one that the part is resized
    to: "centre" and "random" keep the largest part of its aspect, "squash" everything.
    """
    (height, width), (rows, columns) = shape, size
    if crop == "squash":
        return 0.0, 0.0, float(width), float(height)
    zoom = min(height / rows, width / columns)
    # Rounding must not reach past the picture: PIL refuses such a box.
    high, wide = min(rows * zoom, height), min(columns * zoom, width)
    top, left = (height - high) / 2, (width - wide) / 2
    if crop == "random":
        # Whole pixels: a picture that is not resized keeps them.
        top, left = rng.integers([int(height - high), int(width - wide)], endpoint=True)
    right, bottom = min(left + wide, width), min(top + high, height)
    return float(left), float(top), float(right), float(bottom)


def _cells(soft: Float[np.ndarray, "h w"], factor: int) -> Float[np.ndarray, "y x"]:
    """The mean over each latent cell's pixels."""
    h, w = soft.shape
    return soft.reshape(h // factor, factor, w // factor, factor).mean((1, 3))


def _inside(start: int, side: int, factor: int) -> slice:
    """The latent cells strictly inside a stretch of pixels, or else all inside it."""
    stop = (start + side) // factor
    if start // factor + 1 < stop - 1:
        return slice(start // factor + 1, stop - 1)
    return slice(math.ceil(start / factor), stop)


def _say(caption: str, said: str, where: str) -> str:
    if where == "prefix":
        return f"{said} {caption}"
    # Only in front of the caption is there a noun for the article.
    return f"{caption}, {said.removeprefix('a ')}"

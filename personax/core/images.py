"""Pictures: read, fit to a square, write with their settings, lay out in a sheet."""

import json
import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Array, Float, UInt8
from PIL import Image, ImageDraw, ImageFont, ImageOps, PngImagePlugin

from personax.core.decoding import Mask, Pixels, decode, decode_mask, read_file
from personax.core.errors import notice_once
from personax.core.files import expand
from personax.core.listing import list_folder, say_left


def read_image(path: str | pathlib.Path, *, smallest: int = 16) -> Pixels:
    """Read a picture: rotated as its EXIF data say, RGB, transparency over white.

    Raises FileNotFoundError for a missing file, and ValueError for one that is not a
    picture, is truncated, or has a side below `smallest`; see `decode`.
    """
    path = expand(path)
    return decode(read_file(path), path, smallest=smallest)


def read_images(
    source: str | pathlib.Path | Sequence[str | pathlib.Path], *, smallest: int = 16
) -> dict[pathlib.Path, Pixels]:
    """{path: uint8 [h, w, 3]} of a folder's pictures, sorted, or of the listed files.

    What else a folder has is said on stderr. Raises ValueError for a folder without
    pictures, and what `read_image` raises.
    """
    files = pictures_of(source)
    return {file: read_image(file, smallest=smallest) for file in files}


def pictures_of(
    source: str | pathlib.Path | Sequence[str | pathlib.Path],
) -> list[pathlib.Path]:
    """The files of `read_images`, which are not opened."""
    if not isinstance(source, (str, pathlib.Path)):
        return [expand(file) for file in source]
    path = expand(source)
    if not path.is_dir():
        return [path]
    folder = list_folder(path)
    say_left(source, len(folder.pictures), folder.others)
    return folder.pictures


def read_mask(path: str | pathlib.Path) -> Mask:
    """`read_masks` of one file."""
    (mask,) = read_masks([path]).values()
    return mask


def read_masks(paths: Iterable[str | pathlib.Path]) -> dict[pathlib.Path, Mask]:
    """{path: uint8 [h, w]} of soft masks: 255 where a pixel counts fully.

    A mask is the file's alpha channel where that varies, which is said on stderr, and
    else its luminance. Raises what `read_image` raises.
    """
    masks, by_alpha = {}, []
    for path in map(expand, paths):
        masks[path], alpha = decode_mask(read_file(path), path)
        by_alpha += [path.name] if alpha else []
    if by_alpha:
        notice_once(
            f"the alpha channel of {', '.join(by_alpha)} is the mask: opaque pixels "
            "count, whatever their colour"
        )
    return masks


def fit(
    pixels: Pixels | Mask, size: int | tuple[int, int]
) -> Float[np.ndarray, "height width *channels"]:
    """float32 in [-1, 1]: the largest centred crop of that shape, resized (bicubic).

    `size` is the side, or (height, width). A picture of that size keeps its pixels. The
    interpolation reads pixels beyond the edges of the crop.
    """
    height, width = (size, size) if isinstance(size, int) else size
    image = ImageOps.fit(
        Image.fromarray(pixels), (width, height), Image.Resampling.BICUBIC
    )
    return to_float(np.asarray(image))


def to_float(
    pixels: UInt8[np.ndarray, "*any"] | UInt8[Array, "*any"],
) -> Any:
    """uint8 to float32 in [-1, 1], the range of the networks; numpy or jax arrays."""
    return pixels.astype(np.float32) / 127.5 - 1


def to_uint8(images: Float[np.ndarray, "*any"]) -> UInt8[np.ndarray, "*any"]:
    """[-1, 1] to uint8, rounded; values outside the range are clipped."""
    scaled = (np.asarray(images, np.float32) + 1) * 127.5
    return np.round(scaled.clip(0, 255)).astype(np.uint8)


def write_png(
    path: str | pathlib.Path, pixels: Pixels, text: Mapping[str, str] | None = None
) -> None:
    """Write a PNG with one text chunk per entry of `text`, creating its folder."""
    chunks = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        chunks.add_text(key, value)
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="PNG", pnginfo=chunks)


def parameters(prompt: str, negative: str = "", **settings: Any) -> str:
    """The "parameters" text that AUTOMATIC1111's web UI writes and other tools read.

    Settings keep their order; an underscore in a name stands for a space.

    >>> print(parameters("a dog", "a cat", Steps=25, CFG_scale=3, Size="32x32"))
    a dog
    Negative prompt: a cat
    Steps: 25, CFG scale: 3, Size: 32x32
    """
    pairs = ", ".join(
        f"{name.replace('_', ' ')}: {_quoted(str(value))}"
        for name, value in settings.items()
    )
    negatives = [f"Negative prompt: {negative}"] if negative else []
    return "\n".join([prompt, *negatives, pairs])


def grid(
    images: Sequence[Pixels | None],
    *,
    columns: int | None = None,
    row_labels: Sequence[str] = (),
    column_labels: Sequence[str] = (),
    captions: Sequence[str] = (),
    title: str = "",
    scale: int | None = None,
) -> Pixels:
    """One white sheet of `images`, row by row, with labels left, above and below.

    Pictures are enlarged by the integer `scale`, nearest neighbour; by default the
    smallest that makes the shorter side 128. None leaves a cell empty. Long labels are
    wrapped. Without `columns`, their labels decide, or the sheet is about square.
    """
    if not any(image is not None for image in images):
        raise ValueError("A sheet needs at least one picture.")
    columns = (
        columns
        or len(column_labels)
        or math.ceil(
            len(images) / len(row_labels) if row_labels else math.sqrt(len(images))
        )
    )
    rows = math.ceil(len(images) / columns)
    for labels, count, what in (
        (row_labels, rows, "rows"),
        (column_labels, columns, "columns"),
        (captions, len(images), "pictures"),
    ):
        if labels and len(labels) != count:
            raise ValueError(f"There are {len(labels)} labels for {count} {what}.")
    tiles = [image if image is None else _enlarge(image, scale) for image in images]
    return _sheet(tiles, columns, row_labels, column_labels, captions, title)


def overlay(pixels: Pixels, heat: Float[np.ndarray, "y x"]) -> Pixels:
    """The picture in grey under a heat map: 0 is dark, the maximum yellow.

    Each map is divided by its own maximum, as in Prompt-to-Prompt's release. Both are
    enlarged as in a `grid`.
    """
    large = _enlarge(pixels, None)
    height, width = large.shape[:2]
    relative = np.asarray(heat, np.float32) / max(float(np.max(heat)), 1e-12)
    image = Image.fromarray(relative).resize((width, height), Image.Resampling.BILINEAR)
    share = np.asarray(image)[..., None].clip(0, 1)
    places = np.linspace(0, 1, len(_HEAT))
    colours = np.stack(
        [np.interp(share[..., 0], places, channel) for channel in _HEAT.T], axis=-1
    )
    grey = large.mean(axis=-1, keepdims=True)
    return np.round(0.4 * grey + 0.6 * colours).astype(np.uint8)


# Black, violet, orange, yellow: brightness grows with the heat, also in grey.
_HEAT = np.array([[0, 0, 0], [100, 20, 120], [235, 100, 30], [255, 245, 120]])


def _quoted(value: str) -> str:
    # As the web UI does it: its parser splits at commas and colons outside quotes.
    plain = not any(mark in value for mark in ",:\n")
    return value if plain else json.dumps(value, ensure_ascii=False)


def _enlarge(image: Pixels, scale: int | None) -> Pixels:
    scale = scale or math.ceil(128 / min(image.shape[:2]))
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


# The sheet's measures in pixels, and its ink.
_MARGIN, _GAP, _PADDING, _LABEL_WIDTH = 32, 20, 8, 160
_TITLE_SIZE, _LABEL_SIZE, _CAPTION_SIZE = 22, 15, 13
_INK, _SOFT = (24, 26, 30), (92, 98, 108)


class _Block(NamedTuple):
    """Wrapped text: lines, font, and size on the sheet."""

    lines: tuple[str, ...]
    font: ImageFont.FreeTypeFont

    @property
    def leading(self) -> int:
        return round(self.font.size * 1.3)

    @property
    def height(self) -> int:
        return len(self.lines) * self.leading

    @property
    def width(self) -> int:
        return math.ceil(max(map(self.font.getlength, self.lines), default=0))


def _sheet(tiles, columns, row_labels, column_labels, captions, title) -> Pixels:
    shapes = [tile.shape for tile in tiles if tile is not None]
    height, width = (max(shape[axis] for shape in shapes) for axis in (0, 1))
    sides = [_wrap(text, _LABEL_SIZE, _LABEL_WIDTH) for text in row_labels]
    tops = [_wrap(text, _LABEL_SIZE, width) for text in column_labels]
    below = [_wrap(text, _CAPTION_SIZE, width) for text in captions]

    label_width = max((side.width for side in sides), default=0)
    left = _MARGIN + (label_width + _GAP if sides else 0)
    right = left + columns * (width + _GAP) - _GAP
    heading = _wrap(title, _TITLE_SIZE, right - _MARGIN)
    top = _MARGIN + (heading.height + _GAP if title else 0)
    tops_height = max((label.height for label in tops), default=0)
    first_row = top + (tops_height + _PADDING if tops else 0)

    # A row is as deep as its longest caption, or its label where that is longer.
    row_tops = [first_row]
    for row, start in enumerate(range(0, len(tiles), columns)):
        words = max((b.height for b in below[start : start + columns]), default=0)
        deep = height + (words + _PADDING if below else 0)
        label_height = sides[row].height if sides else 0
        row_tops.append(row_tops[-1] + max(deep, label_height) + _GAP)

    bottom = row_tops.pop() - _GAP
    sheet = Image.new("RGB", (right + _MARGIN, bottom + _MARGIN), "white")
    draw = ImageDraw.Draw(sheet)
    _write(draw, heading, _MARGIN, _MARGIN, _INK)
    for column, label in enumerate(tops):
        centre = left + column * (width + _GAP) + width / 2
        _write(draw, label, centre, first_row - _PADDING - label.height, _INK, "m")
    for row, label in enumerate(sides):
        middle = row_tops[row] + max(0, height - label.height) / 2
        _write(draw, label, left - _GAP, middle, _INK, "r")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        x, y = left + column * (width + _GAP), row_tops[row]
        if tile is not None:
            shift = ((width - tile.shape[1]) // 2, (height - tile.shape[0]) // 2)
            sheet.paste(Image.fromarray(tile), (x + shift[0], y + shift[1]))
        if below:
            _write(draw, below[index], x + width / 2, y + height + _PADDING, _SOFT, "m")
    return np.array(sheet)


def _write(
    draw: ImageDraw.ImageDraw,
    block: _Block,
    x: int | float,
    y: int | float,
    ink: tuple[int, int, int],
    align: Literal["l", "m", "r"] = "l",
) -> None:
    """Draw a block with its left end, middle or right end at x, its top at y."""
    for number, line in enumerate(block.lines):
        draw.text(
            (x, y + number * block.leading), line, ink, block.font, anchor=f"{align}a"
        )


def _wrap(text: str, size: int, width: int) -> _Block:
    """`text` in as few lines as `width` allows, of about equal length."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # given a size, Pillow returns one
    lines = _lines(text, font, width)
    for narrower in range(width - 4, width // 2, -4):
        closer = _lines(text, font, narrower)
        if len(closer) > len(lines):
            break
        lines = closer
    return _Block(tuple(lines), font)


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else word
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            # A word that is wider than the whole line (a path, say) is cut.
            while font.getlength(longer) > width and len(longer) > 1:
                ends = range(len(longer) - 1, 0, -1)
                cut = next((n for n in ends if font.getlength(longer[:n]) <= width), 1)
                lines.append(longer[:cut])
                longer = longer[cut:]
            line = longer
        lines.append(line)
    return lines

"""Parts of self-contained HTML pages: templates with their scripts, and images."""

import base64
import html
import io
import json
import math
import pathlib
import string
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from personax.core.images import Pixels, read_image
from personax.evaluation.results import EvalResult

LARGEST = 256  # longer side of a picture on a page; sheets keep all pixels


def fill(
    name: str, title: str, data: Any, scripts: Sequence[str] = (), *, sheets: str = ""
) -> str:
    """NAME.html of this folder with its styles, its scripts and their data."""
    folder = pathlib.Path(__file__).parent
    parts = {
        "title": html.escape(title),
        "style": "\n".join(
            (folder / file).read_text() for file in ("page.css", f"{name}.css")
        ),
        "sheets": sheets,
        # "<" could end the script element.
        "data": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        "script": "\n".join(
            (folder / f"{file}.js").read_text() for file in ("page", *scripts, name)
        ),
    }
    return string.Template((folder / f"{name}.html").read_text()).substitute(parts)


def tiles(out: pathlib.Path, result: EvalResult) -> list[Pixels]:
    """The pictures of a result's samples, cut from its sheet.

    Raises FileNotFoundError without the sheet, ValueError if it is too small.
    """
    if not result.samples:
        return []
    sheet = read_image(out / result.sheet, smallest=1)
    (width, height), columns, count = result.tile, result.columns, len(result.samples)
    rows = math.ceil(count / columns)
    if sheet.shape[0] < rows * height or sheet.shape[1] < columns * width:
        raise ValueError(
            f"{out / result.sheet} is {sheet.shape[1]}x{sheet.shape[0]} pixels, but "
            f"{count} pictures of {width}x{height}, {columns} per row, require "
            f"{columns * width}x{rows * height}."
        )
    blocks = sheet[: rows * height, : columns * width]
    blocks = blocks.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return list(blocks.reshape(-1, height, width, 3)[:count])


def pictures_of(
    subject: str, references: Mapping[str, Sequence[Pixels]]
) -> list[Pixels]:
    """The references of a subject, or of both subjects of "dog+cat"."""
    names = [subject] if subject in references else subject.split("+")
    return [picture for name in names for picture in references.get(name, ())]


def reduced(pixels: Pixels) -> Pixels:
    """The picture, scaled down to at most `LARGEST` pixels per side."""
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.array(image)


def data_uri(pixels: Pixels, *, lossless: bool | None = None) -> str:
    """The picture as a WebP data URI; by default lossless up to 64 pixels.

    A lossless WebP of 32x32 emoji scenes has 0.8 times the bytes of a PNG. Quality 90
    of photographs has a quarter of the lossless bytes, at a PSNR of 36 to 39 dB.
    """
    exact = min(pixels.shape[:2]) <= 64 if lossless is None else lossless
    file = io.BytesIO()
    options = {"lossless": True} if exact else {"quality": 90, "method": 6}
    Image.fromarray(pixels).save(file, format="WEBP", **options)
    return uri("webp", file.getvalue())


def uri(kind: str, data: bytes) -> str:
    """The data URI of an image file's content."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"

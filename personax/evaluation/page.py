"""What self-contained pages are made of: their files in one, and pictures as URLs."""

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
from personax.evaluation.results import Cell

LARGEST = 256  # a picture's longer side on a page; the sheets have all pixels


def fill(
    name: str, title: str, data: Any, scripts: Sequence[str] = (), *, sheets: str = ""
) -> str:
    """NAME.html of this folder with its style, its scripts and what they show."""
    folder = pathlib.Path(__file__).parent
    parts = {
        "title": html.escape(title),
        "style": "\n".join(
            (folder / file).read_text() for file in ("page.css", f"{name}.css")
        ),
        "sheets": sheets,
        # Inside of a script element nothing else ends it.
        "data": json.dumps(data, ensure_ascii=False).replace("<", "\\u003c"),
        "script": "\n".join(
            (folder / f"{file}.js").read_text() for file in ("page", *scripts, name)
        ),
    }
    return string.Template((folder / f"{name}.html").read_text()).substitute(parts)


def tiles(out: pathlib.Path, cell: Cell) -> list[Pixels]:
    """The pictures of a cell's shots, cut from its sheet."""
    if not cell.shots:
        return []
    sheet, (width, height) = read_image(out / cell.sheet, smallest=1), cell.tile
    across, down = cell.columns, math.ceil(len(cell.shots) / cell.columns)
    if sheet.shape[0] < down * height or sheet.shape[1] < across * width:
        raise ValueError(
            f"{out / cell.sheet} is {sheet.shape[1]}x{sheet.shape[0]} pixels, and "
            f"{len(cell.shots)} pictures of {width}x{height}, {across} to a row, need "
            f"{across * width}x{down * height}."
        )
    places = [divmod(i, across) for i in range(len(cell.shots))]
    return [
        sheet[y * height : (y + 1) * height, x * width : (x + 1) * width]
        for y, x in places
    ]


def pictures_of(
    subject: str, references: Mapping[str, Sequence[Pixels]]
) -> list[Pixels]:
    """The references of a subject, or of all that "dog+cat" names."""
    names = [subject] if subject in references else subject.split("+")
    return [picture for name in names for picture in references.get(name, ())]


def reduced(pixels: Pixels) -> Pixels:
    """The picture with at most `LARGEST` pixels a side."""
    image = Image.fromarray(pixels)
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return np.array(image)


def data_uri(pixels: Pixels, *, lossless: bool | None = None) -> str:
    """The picture as WebP in a URL: as it is, or, if larger than 64 pixels, nearly so.

    Measured: of 32x32 emoji scenes a lossless WebP has 0.8 times the bytes of a PNG;
    of photographs quality 90 has a quarter of a lossless WebP's, at 36 to 39 dB.
    """
    exact = min(pixels.shape[:2]) <= 64 if lossless is None else lossless
    file = io.BytesIO()
    how = {"lossless": True} if exact else {"quality": 90, "method": 6}
    Image.fromarray(pixels).save(file, format="WEBP", **how)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"

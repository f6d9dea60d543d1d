"""The sizes of many pictures from their headers, kept for the next start."""

import hashlib
import io
import json
import os
import pathlib
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from PIL import Image

from personax.core.progress import Progress

_CACHE = "~/.cache/personax/headers"
_ORIENTATION = 0x0112  # EXIF's; from 5 on the picture is stored lying on its side
_SMALLEST = 16

# (height, width), or what is wrong.
Header = tuple[int, int] | str


def read_headers(
    names: Sequence[str],
    stamps: Sequence[str],
    open_file: Callable[[str], io.IOBase],
    *,
    key: str,
    cache: str = _CACHE,
) -> dict[str, Header]:
    """{name: (height, width) of the upright picture, or a sentence} of every file.

    What `cache` holds for `key` is not read again where the file's stamp, such as its
    length and time, is the same.
    """
    folder = pathlib.Path(cache).expanduser()
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    known = _read(file)
    found: dict[str, Header] = {}
    wanted = []
    for name, stamp in zip(names, stamps, strict=True):
        there = known.get(name)
        if there and there[0] == stamp:
            found[name] = there[1] if isinstance(there[1], str) else tuple(there[1])
        else:
            wanted.append(name)
    if wanted:
        with ThreadPoolExecutor(8) as pool:
            headers = pool.map(lambda name: _header(name, open_file), wanted)
            shown = Progress(headers, "headers", len(wanted), unit="image", leave=False)
            found |= dict(zip(wanted, shown, strict=True))
        rows = zip(names, stamps, strict=True)
        _write(file, {name: [stamp, found[name]] for name, stamp in rows})
    return {name: found[name] for name in names}


def _header(name: str, open_file: Callable[[str], io.IOBase]) -> Header:
    try:
        with open_file(name) as file, Image.open(file) as image:
            width, height = image.size
            # A PNG's EXIF may stand at its end: only what the header says is asked.
            exif = image.getexif() if "exif" in image.info else {}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{name} cannot be read as a picture: {error}."
    if min(width, height) < _SMALLEST:
        return f"{name} is {width}x{height} pixels; both sides must have {_SMALLEST}."
    turned = exif.get(_ORIENTATION, 1) >= 5
    return (width, height) if turned else (height, width)


def _read(file: pathlib.Path) -> Mapping[str, Any]:
    try:
        return json.loads(zlib.decompress(file.read_bytes()))
    except (OSError, ValueError, zlib.error):  # none yet, or damaged
        return {}


def _write(file: pathlib.Path, rows: Mapping[str, list]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(zlib.compress(json.dumps(rows).encode(), 1))
    unfinished.replace(file)

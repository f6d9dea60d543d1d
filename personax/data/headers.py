"""Picture sizes from file headers, cached on disk."""

import io
import json
import pathlib
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, cast

import numpy as np
from jaxtyping import Int
from PIL import Image

from personax.core.files import atomic_write, digest
from personax.core.progress import Progress

_CACHE = "~/.cache/personax/headers"
_ORIENTATION = 0x0112  # EXIF's; from 5 on width and height are exchanged
_SMALLEST = 16

# (height, width), or an error message.
Header = tuple[int, int] | str


def read_headers(
    names: Sequence[str],
    stamps: Sequence[str],
    open_file: Callable[[str], io.IOBase],
    *,
    key: str,
    cache: str = _CACHE,
) -> dict[str, Header]:
    """{name: (height, width) of the upright picture, or an error message}.

    Files are not read again whose stamp, such as their length and time, is the one that
    `cache` holds for `key`.
    """
    folder = pathlib.Path(cache).expanduser()
    file = folder / f"{digest(key)}.json"
    try:
        cached = json.loads(zlib.decompress(file.read_bytes()))
    except (OSError, ValueError, zlib.error):  # missing or damaged
        cached = {}
    headers: dict[str, Header] = {}
    unread = []
    for name, stamp in zip(names, stamps, strict=True):
        entry = cached.get(name)
        if entry and entry[0] == stamp:
            headers[name] = entry[1] if isinstance(entry[1], str) else tuple(entry[1])
        else:
            unread.append(name)
    if unread:
        with ThreadPoolExecutor(8) as pool:
            read = pool.map(lambda name: _header(name, open_file), unread)
            bar = Progress(read, "headers", len(unread), unit="image", leave=False)
            headers |= dict(zip(unread, bar, strict=True))
        rows = {n: [stamp, headers[n]] for n, stamp in zip(names, stamps, strict=True)}
        with atomic_write(file) as temporary:
            temporary.write_bytes(zlib.compress(json.dumps(rows).encode(), 1))
    return {name: headers[name] for name in names}


def read_sizes(
    stamps: Sequence[str], read: Callable[[int], bytes], *, key: str
) -> Int[np.ndarray, "n 2"]:
    """(height, width) of numbered pictures, whose files `read` returns.

    (1, 1) for an unreadable one: it is replaced when it is read, whatever its size.
    """
    names = [str(index) for index in range(len(stamps))]
    headers = read_headers(
        names, stamps, lambda name: io.BytesIO(read(int(name))), key=key
    )
    sizes = [(1, 1) if isinstance(h, str) else h for h in headers.values()]
    return np.array(sizes)


def _header(name: str, open_file: Callable[[str], io.IOBase]) -> Header:
    try:
        with open_file(name) as file, Image.open(cast(IO[bytes], file)) as image:
            width, height = image.size
            # A PNG's EXIF may follow the pixels; only the header is read.
            exif = image.getexif() if "exif" in image.info else {}
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{name} cannot be read as a picture: {error}."
    if min(width, height) < _SMALLEST:
        return f"{name} is {width}x{height} pixels; both sides must have {_SMALLEST}."
    rotated = exif.get(_ORIENTATION, 1) >= 5
    return (width, height) if rotated else (height, width)

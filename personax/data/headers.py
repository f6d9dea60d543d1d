"""Picture sizes from file headers, cached on disk."""

import io
import json
import pathlib
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Int

from personax.core.decoding import PREFIX, read_size, reading, too_small
from personax.core.errors import notice_once
from personax.core.files import atomic_write, digest
from personax.core.outputs import cache_folder
from personax.core.progress import Progress

_CACHE = "~/.cache/personax/headers"
_SMALLEST = 16

# (height, width, CRC of the file's first 128 KiB), or an error message.
Header = tuple[int, int, int] | str


def read_headers(
    names: Sequence[str],
    stamps: Sequence[str],
    open_file: Callable[[str], io.BufferedIOBase],
    *,
    key: str,
    cache: str = _CACHE,
) -> dict[str, Header]:
    """{name: (height, width) of the upright picture and a CRC, or an error message}.

    Files are not read again whose stamp, such as their length and time, is the one that
    `cache` holds for `key`. Errors are not kept: a disk may have been out of reach.
    """
    folder = cache_folder(cache)
    file = folder and folder / f"{digest(key)}.json"
    cached = _read_cache(file) if file else {}
    headers: dict[str, Header] = {}
    unread = []
    for name, stamp in zip(names, stamps, strict=True):
        before, size = cached.get(name, (None, None))
        if size and before == stamp:
            headers[name] = size
        else:
            unread.append(name)
    if unread:
        with ThreadPoolExecutor(8) as pool:
            read = pool.map(lambda name: _header(name, open_file), unread)
            bar = Progress(read, "headers", len(unread), unit="image", leave=False)
            headers |= dict(zip(unread, bar, strict=True))
        rows = {n: [stamp, headers[n]] for n, stamp in zip(names, stamps, strict=True)}
        rows = {n: row for n, row in rows.items() if not isinstance(row[1], str)}
        if file:
            _write_cache(file, rows)
    return {name: headers[name] for name in names}


def _read_cache(file: pathlib.Path) -> dict[str, tuple[str, tuple[int, int, int]]]:
    """{name: (stamp, header)}, {} for a missing or damaged file."""
    try:
        rows = json.loads(zlib.decompress(file.read_bytes()))
        return {
            name: (stamp, (int(height), int(width), int(check)))
            for name, (stamp, (height, width, check)) in rows.items()
        }
    except Exception:  # of any type, by what the file holds
        return {}


def _write_cache(file: pathlib.Path, rows: object) -> None:
    try:
        with atomic_write(file) as temporary:
            temporary.write_bytes(zlib.compress(json.dumps(rows).encode(), 1))
    except OSError as error:
        notice_once(f"The sizes of the pictures are not kept in {file}: {error}.")


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
    sizes = [(1, 1) if isinstance(h, str) else h[:2] for h in headers.values()]
    return np.array(sizes)


def _header(name: str, open_file: Callable[[str], io.BufferedIOBase]) -> Header:
    try:
        with open_file(name) as file:
            height, width = read_size(file, name)
            with reading(name):
                file.seek(0)
                check = zlib.crc32(file.read(PREFIX))
    except ValueError as error:
        return str(error)
    if min(width, height) < _SMALLEST:
        return too_small(name, height, width, _SMALLEST)
    return height, width, check

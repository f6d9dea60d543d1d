"""Pictures, masks, and archives of pictures."""

import functools
import io
import json
import pathlib
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.fuzz_readers.reader import Files, Reader, each, written
from personax.core.decoding import FORMATS
from personax.core.images import read_image
from personax.data import concepts
from personax.data.files import open_files
from personax.data.headers import read_headers
from personax.data.tars import open_tars


def _picture(mode: str = "RGB", kind: str = "PNG", **options: Any) -> bytes:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8))
    if mode == "F":
        image = Image.fromarray(rng.random((20, 24), dtype=np.float32))
    elif mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (20, 24), dtype=np.uint16))
    else:
        image = image.convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@functools.cache
def _pictures() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    turned = exif.tobytes()
    kinds = {
        "PNG": ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"),
        "JPEG": ("RGB", "L", "CMYK"),
        "WEBP": ("RGB", "RGBA"),
        "BMP": ("RGB", "P", "1"),
        "TIFF": ("RGB", "RGBA", "F", "I;16", "LAB", "CMYK"),
    }
    return [
        *(_picture(mode, kind) for kind, modes in kinds.items() for mode in modes),
        _picture("P", transparency=3),
        _picture(exif=turned, dpi=(300, 300), icc_profile=b"x" * 200),
        _picture("RGB", "JPEG", progressive=True, exif=turned, comment=b"x"),
        _picture("RGB", "WEBP", lossless=True, exif=turned),
        _picture("RGB", "TIFF", compression="tiff_lzw", exif=turned),
        _picture("RGB", "TIFF", compression="jpeg"),
        _picture("1", "TIFF", compression="group4"),
        # Pillow looks at the content, whatever the name says.
        *(_picture("RGB", kind) for kind in _others()),
    ]


def _others() -> list[str]:
    """Further formats that this Pillow writes."""
    Image.init()
    kinds = set(FORMATS) - {"PNG", "JPEG", "MPO", "WEBP", "TIFF", "BMP"}
    return sorted(kinds & Image.SAVE.keys())


def _read_picture(folder: pathlib.Path) -> None:
    pixels = read_image(folder / "dog.png")
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3


def _read_header(folder: pathlib.Path) -> None:
    def read(name: str) -> io.BufferedIOBase:
        return (folder / name).open("rb")

    cache = str(folder / "cache")
    (header,) = read_headers(["dog.png"], ["1"], read, key="dog", cache=cache).values()
    if isinstance(header, str):
        raise ValueError(header)
    assert all(isinstance(side, int) for side in header)


def _read_headers_again(folder: pathlib.Path) -> None:
    """With the cache that an earlier process has left."""
    folder.joinpath("_dog.png").rename(folder / "dog.png")
    _read_header(folder)


def _write_headers(folder: pathlib.Path) -> None:
    (folder / "dog.png").write_bytes(_picture())
    _read_header(folder)
    (folder / "dog.png").rename(folder / "_dog.png")


@functools.cache
def _masks() -> list[Files]:
    masks = [_picture(mode) for mode in ("L", "RGBA", "LA", "1")]
    masks += [_picture("F", "TIFF"), _picture("I;16")]
    return [{"masks/dog.png": mask, "_pictures/dog.png": _picture()} for mask in masks]


def _read_masks(folder: pathlib.Path) -> None:
    folder.joinpath("_pictures").rename(folder / "pictures")
    (mask,) = concepts.masks(str(folder / "masks"), str(folder / "pictures"))
    assert mask.shape == (20, 24)


# Sets of pictures, and texts beside them.


@functools.cache
def _zips() -> list[Files]:
    seeds = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("a/dog.png", _picture())
            archive.writestr("a/dog.txt", "a dog")
            archive.writestr("cat.jpg", _picture("RGB", "JPEG"))
            row = json.dumps({"file_name": "cat.jpg", "text": "a cat"})
            archive.writestr("metadata.jsonl", row + "\n")
        seeds.append({"set.zip": buffer.getvalue()})
    return seeds


@functools.cache
def _tars() -> list[Files]:
    files = {
        "0.png": _picture(),
        "0.txt": b"a dog",
        "1.jpg": _picture("RGB", "JPEG"),
        "1.json": json.dumps({"caption": "a cat"}).encode(),
    }
    seeds = []
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(name if form == 0 else f"{'x' * 120}/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        seeds.append({"set.tar": buffer.getvalue()})
    return seeds


def _read_set(open_set: Callable[[str], Any], folder: pathlib.Path, name: str) -> None:
    """All of a set; what cannot be read must be named, too."""
    pictures = open_set(str(folder / name))
    sizes, _ = pictures.sizes(), pictures.digest()
    assert sizes.shape == (len(pictures), 2)
    bool(pictures.captioned)
    for index in range(min(len(pictures), 8)):
        pictures.picture(index)


READERS: dict[str, Reader] = {
    "pictures": Reader(each("dog.png", _pictures), _read_picture),
    "headers": Reader(each("dog.png", _pictures), _read_header),
    "header_caches": Reader(written(_write_headers), _read_headers_again),
    "masks": Reader(_masks, _read_masks),
    "zips": Reader(_zips, lambda folder: _read_set(open_files, folder, "set.zip")),
    "tars": Reader(_tars, lambda folder: _read_set(open_tars, folder, "set.tar")),
}

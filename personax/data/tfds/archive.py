"""Pictures of a downloaded data set, in a folder or in a zip that is not unpacked."""

import io
import os
import pathlib
import zipfile
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from personax.data.captioned import is_picture


class File(NamedTuple):
    """A downloaded picture, encoded."""

    name: str  # its path within the folder or zip
    data: bytes


def pictures(source: str | os.PathLike[str]) -> list[str]:
    """The paths of all pictures in a folder or zip, sorted.

    Raises ValueError where there is none.
    """
    source = pathlib.Path(source)
    if source.is_dir():
        paths = (path for path in source.rglob("*") if is_picture(path.name))
        names = [path.relative_to(source).as_posix() for path in paths]
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as file:
            names = [name for name in file.namelist() if is_picture(name)]
    else:
        raise ValueError(f"{source} is neither a folder nor a zip.")
    if not names:
        raise ValueError(f"{source} holds no picture.")
    return sorted(names)


def read(source: str | os.PathLike[str], names: list[str]) -> Iterator[File]:
    """The pictures of these names, encoded; damaged ones are reported and skipped.

    A damaged picture has no readable header, or wrong checksums.
    """
    source, skipped = pathlib.Path(source), 0
    archive = None if source.is_dir() else zipfile.ZipFile(source)
    for name in names:
        try:
            data = archive.read(name) if archive else (source / name).read_bytes()
            with Image.open(io.BytesIO(data)) as image:
                image.verify()
        except (OSError, SyntaxError, ValueError, zipfile.BadZipFile) as error:
            skipped += 1
            print(f"skipped ({skipped} so far): {source}/{name}: {error}")
            continue
        yield File(name, data)


def source_of(manual_dir: os.PathLike[str]) -> pathlib.Path:
    """The folder itself, or the zip that is all it holds."""
    folder = pathlib.Path(manual_dir)
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if len(inside) == 1 and inside[0].suffix == ".zip":
        return inside[0]
    return folder

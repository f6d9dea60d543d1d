"""Picture sets in files: a folder with all that is below it, or a zip, not unpacked."""

import functools
import hashlib
import io
import json
import os
import pathlib
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from personax.core.images import SUFFIXES, decode
from personax.data.captioned import read_captioned
from personax.data.headers import Header, read_headers
from personax.data.picture import Picture


class Entry(NamedTuple):
    """A picture's file within its folder or zip, and its caption."""

    name: str
    caption: str
    stamp: str  # changes when the file does


class Files:
    """The pictures of a folder or a zip that have a readable header, in name order."""

    def __init__(self, root: pathlib.Path, entries: Sequence[Entry]):
        self.root = root
        headers = read_headers(
            [entry.name for entry in entries],
            [entry.stamp for entry in entries],
            self._open,
            key=str(root.absolute()),
        )
        bad = {name: said for name, said in headers.items() if isinstance(said, str)}
        self.skipped = tuple(bad.values())
        self.entries = tuple(entry for entry in entries if entry.name not in bad)
        self._headers = headers
        if not self.entries:
            raise ValueError(
                f"None of the {len(entries)} pictures in {root} can be read; the "
                f"first: {self.skipped[0]}"
            )

    def __reduce__(self):
        # Each process opens a zip for itself.
        return _restored, (self.root, self.entries, self._headers)

    def __len__(self) -> int:
        return len(self.entries)

    def picture(self, index: int) -> Picture:
        entry = self.entries[index]
        where = f"{self.root}/{entry.name}"
        try:
            with self._open(entry.name) as file:
                data = file.read()
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{where} cannot be read as a picture: {error}.")
        return Picture(decode(data, where), entry.caption)

    @property
    def captioned(self) -> bool:
        return any(entry.caption for entry in self.entries)

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        return np.array([self._headers[entry.name] for entry in self.entries])

    def digest(self) -> str:
        found = hashlib.sha256()
        for entry in self.entries:
            size = entry.stamp.split()[0]  # a copy has other times
            found.update(f"{entry.name}\t{size}\t{entry.caption}\n".encode())
        return found.hexdigest()[:16]

    def _open(self, name: str) -> io.IOBase:
        if self._zip is not None:
            return self._zip.open(name)
        return (self.root / name).open("rb")

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return None if self.root.is_dir() else zipfile.ZipFile(self.root)


def _restored(root, entries, headers: dict[str, Header]) -> Files:
    found = Files.__new__(Files)
    found.root, found.entries, found._headers = root, entries, headers
    found.skipped = ()
    return found


def open_files(source: str) -> Files:
    """The pictures in and below a folder, or in a zip.

    A folder's captions are what `read_captioned` finds in each of its folders, a zip's
    stand in metadata.jsonl or in .txt files of the pictures' names; "" where there is
    none. Raises ValueError where there is no picture, FileNotFoundError where there is
    nothing.
    """
    root = pathlib.Path(source).expanduser()
    if root.is_dir():
        entries = _in_folder(root)
    elif not root.is_file():
        raise FileNotFoundError(f"There is no folder or zip of pictures {source}.")
    elif zipfile.is_zipfile(root):
        entries = _in_zip(root)
    else:
        raise ValueError(f"{source} is neither a folder nor a zip of pictures.")
    if not entries:
        raise ValueError(f"{source} holds no picture ({', '.join(SUFFIXES)}).")
    return Files(root, entries)


_LISTINGS = ("metadata.jsonl", "images.txt")


def _in_folder(root: pathlib.Path) -> list[Entry]:
    found: dict[pathlib.Path, list[str]] = {}
    # Outer folders first, whose listings may speak for the ones below.
    for folder, names in sorted((folder, names) for folder, _, names in os.walk(root)):
        if not any(is_picture(name) or name in _LISTINGS for name in names):
            continue
        own: dict[pathlib.Path, list[str]] = {}
        for path, caption in read_captioned(folder, caption=""):
            own.setdefault(path, []).append(caption)
        found = own | found
    entries = []
    for path in sorted(found):
        status = path.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns}"
        inside = path.is_relative_to(root)
        name = (path.relative_to(root) if inside else path.absolute()).as_posix()
        entries += [Entry(name, caption, stamp) for caption in found[path]]
    return entries


def is_picture(name: str) -> bool:
    # A leading dot marks what a file system left behind, such as ._photo.jpg.
    path = pathlib.PurePosixPath(name)
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _in_zip(root: pathlib.Path) -> list[Entry]:
    with zipfile.ZipFile(root) as file:
        infos = {info.filename: info for info in file.infolist()}
        names = sorted(name for name in infos if is_picture(name))
        captions = {}
        for name in infos:
            if pathlib.PurePosixPath(name).name == "metadata.jsonl":
                captions |= _listed(file, name)
        for name in names:
            text = str(pathlib.PurePosixPath(name).with_suffix(".txt"))
            if text in infos:
                captions[name] = file.read(text).decode("utf-8-sig").strip()
    stamps = {name: f"{infos[name].file_size} {infos[name].CRC}" for name in names}
    return [Entry(name, captions.get(name, ""), stamps[name]) for name in names]


def _listed(file: zipfile.ZipFile, name: str) -> dict[str, str]:
    folder, found = pathlib.PurePosixPath(name).parent, {}
    for number, line in enumerate(file.read(name).decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            found[str(folder / entry["file_name"])] = (entry.get("text") or "").strip()
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"Line {number} of {file.filename}/{name} is not of the form "
                '{"file_name": "dog.png", "text": "a photo of a dog"}.'
            )
    return found

"""Picture sets in files: a folder and all below it, or a zip that is not unpacked."""

import functools
import io
import os
import pathlib
import zipfile
from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Int

from personax.core.files import digest
from personax.core.images import SUFFIXES, decode, is_picture
from personax.data.captioned import TEXT_SUFFIXES, read_captioned
from personax.data.headers import Header, read_headers
from personax.data.metadata import LISTINGS, parse_metadata
from personax.data.picture import Picture


class Entry(NamedTuple):
    """A picture's file within its folder or zip, and its caption."""

    name: str
    caption: str
    stamp: str  # changes when the file does


class Files:
    """The pictures of a folder or a zip that have a readable header, in name order."""

    def __init__(
        self,
        root: pathlib.Path,
        entries: Sequence[Entry],
        headers: Mapping[str, Header] | None = None,
    ):
        self.root = root
        self._headers = headers or read_headers(
            [entry.name for entry in entries],
            [entry.stamp for entry in entries],
            self._open,
            key=str(root.absolute()),
        )
        errors = {name: x for name, x in self._headers.items() if isinstance(x, str)}
        self.skipped = tuple(errors.values())
        self.entries = tuple(entry for entry in entries if entry.name not in errors)
        if not self.entries:
            raise ValueError(
                f"None of the {len(entries)} pictures in {root} can be read; the "
                f"first: {self.skipped[0]}"
            )

    def __reduce__(self):
        # Each process opens a zip for itself.
        return type(self), (self.root, self.entries, self._headers)

    def __len__(self) -> int:
        return len(self.entries)

    def picture(self, index: int) -> Picture:
        entry = self.entries[index]
        path = f"{self.root}/{entry.name}"
        try:
            with self._open(entry.name) as file:
                data = file.read()
        except (OSError, KeyError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} cannot be read as a picture: {error}.")
        return Picture(decode(data, path), entry.caption)

    @property
    def captioned(self) -> bool:
        return any(entry.caption for entry in self.entries)

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        return np.array([self._headers[entry.name] for entry in self.entries])

    def digest(self) -> str:
        # Of the stamp the size alone: a copy has other times.
        return digest(
            *(
                f"{entry.name}\t{entry.stamp.split()[0]}\t{entry.caption}\n"
                for entry in self.entries
            )
        )

    def _open(self, name: str) -> io.IOBase:
        if self._zip is not None:
            return cast(io.IOBase, self._zip.open(name))
        return (self.root / name).open("rb")

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return None if self.root.is_dir() else zipfile.ZipFile(self.root)


def open_files(source: str, *, column: str | None = None) -> Files:
    """The pictures in and below a folder, or in a zip.

    Captions are, in a folder, those of `read_captioned` for each folder in it, and in a
    zip those of metadata.jsonl or .csv, or of .txt or .caption files with the pictures'
    names; "" for a picture without one. `column` is that of the captions. Raises
    ValueError where there is no picture or no such column, FileNotFoundError where
    there is no such file or folder.
    """
    root = pathlib.Path(source).expanduser()
    if root.is_dir():
        entries = _in_folder(root, column)
    elif not root.is_file():
        raise FileNotFoundError(f"There is no folder or zip of pictures {source}.")
    elif zipfile.is_zipfile(root):
        entries = _in_zip(root, column)
    else:
        raise ValueError(f"{source} is neither a folder nor a zip of pictures.")
    if not entries:
        raise ValueError(f"{source} holds no picture ({', '.join(SUFFIXES)}).")
    return Files(root, entries)


def _in_folder(root: pathlib.Path, column: str | None) -> list[Entry]:
    captions: dict[pathlib.Path, list[str]] = {}
    # Outer folders first: their listings may name pictures in the folders below.
    for folder, names in sorted((folder, names) for folder, _, names in os.walk(root)):
        listings = {*LISTINGS, "images.txt"}
        if not any(is_picture(name) or name in listings for name in names):
            continue
        own: dict[pathlib.Path, list[str]] = {}
        for path, caption in read_captioned(folder, caption="", column=column):
            own.setdefault(path, []).append(caption)
        captions = own | captions
    entries = []
    for path in sorted(captions):
        status = path.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns}"
        inside = path.is_relative_to(root)
        name = (path.relative_to(root) if inside else path.absolute()).as_posix()
        entries += [Entry(name, caption, stamp) for caption in captions[path]]
    return entries


def _in_zip(root: pathlib.Path, column: str | None) -> list[Entry]:
    with zipfile.ZipFile(root) as file:
        infos = {info.filename: info for info in file.infolist()}
        names = sorted(name for name in infos if is_picture(name))
        captions: dict[str, str] = {}
        # Reversed, so that the first of two in one folder counts.
        for listing in reversed(LISTINGS):
            for name in infos:
                path = pathlib.PurePosixPath(name)
                if path.name == listing:
                    text = _text(file, name)
                    pairs = parse_metadata(text, f"{root}/{name}", column)
                    captions |= {str(path.parent / own): words for own, words in pairs}
        for name in names:
            path = pathlib.PurePosixPath(name)
            texts = (str(path.with_suffix(suffix)) for suffix in TEXT_SUFFIXES)
            text = next((text for text in texts if text in infos), None)
            if text:
                captions[name] = _text(file, text).strip()
    stamps = {name: f"{infos[name].file_size} {infos[name].CRC}" for name in names}
    return [Entry(name, captions.get(name, ""), stamps[name]) for name in names]


def _text(file: zipfile.ZipFile, name: str) -> str:
    try:
        return file.read(name).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file.filename}/{name} is not UTF-8 text.")

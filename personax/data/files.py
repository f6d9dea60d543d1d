"""Picture sets in files: a folder and all below it, or a zip that is not unpacked."""

import functools
import io
import pathlib
import zipfile
from collections.abc import Container, Mapping, Sequence
from typing import NamedTuple, cast

import numpy as np
from jaxtyping import Int

from personax.core.decoding import (
    LARGEST_FILE,
    decode,
    is_picture,
    read_file,
    reading,
)
from personax.core.files import (
    LARGEST_TEXT,
    decode_text,
    digest,
    digest_contents,
    expand,
)
from personax.core.listing import is_hidden, list_tree, say_left
from personax.data.captioned import TEXT_SUFFIXES, captions_in
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
        if self._zip is not None:
            data = read_member(self._zip, entry.name, path)
        else:
            data = read_file(self.root / entry.name)
        return Picture(decode(data, path), entry.caption)

    @property
    def captioned(self) -> bool:
        return any(entry.caption for entry in self.entries)

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        return np.array([self._headers[entry.name][:2] for entry in self.entries])

    def digest(self) -> str:
        parts = []
        for entry in self.entries:
            # Of a file's stamp the size alone: a copy has other times.
            packed = self._zip is not None
            stamp = entry.stamp if packed else entry.stamp.split()[0]
            check = self._headers[entry.name][2]
            parts.append(f"{entry.name}\t{stamp}\t{check}\t{entry.caption}\n")
        return digest(*parts)

    def contents(self) -> str:
        if self._zip is not None:  # whose stamps hold checksums
            return digest(*(entry.stamp for entry in self.entries))
        return digest_contents(self.root / entry.name for entry in self.entries)

    def _open(self, name: str) -> io.BufferedIOBase:
        if self._zip is not None:
            return _open_member(self._zip, name, name)
        with reading(name):
            path = self.root / name
            if not path.is_file():  # a pipe would be waited for
                raise ValueError("it is no file")
            return path.open("rb")

    @functools.cached_property
    def _zip(self) -> zipfile.ZipFile | None:
        return None if self.root.is_dir() else open_zip(self.root)


def open_files(source: str, *, column: str | None = None) -> Files:
    """The pictures in and below a folder, or in a zip.

    Captions are, in a folder, those of `read_captioned` for each folder in it, and in a
    zip those of metadata.jsonl or .csv, or of .txt or .caption files with the pictures'
    names; "" for a picture without one. `column` is that of the captions. Hidden files
    and folders are left out; what else is not read is said on stderr. Raises ValueError
    where there is no picture or no such column, FileNotFoundError where there is no
    such file or folder.
    """
    root = expand(source)
    if root.is_dir():
        entries, left = _in_folder(root, column)
    elif not root.exists():
        raise FileNotFoundError(f"There is no folder or zip of pictures {source}.")
    else:
        with open_zip(root) as file:
            entries, left = _in_zip(file, column)
    say_left(source, len(entries), left)
    return Files(root, entries)


def open_zip(path: pathlib.Path) -> zipfile.ZipFile:
    """A zip file; raises ValueError for one that is damaged, or for any other file."""
    try:
        if not path.is_file():
            raise ValueError("it is no file")
        return zipfile.ZipFile(path)
    except Exception as error:  # of any type for a damaged directory
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(f"{path} cannot be read as a zip: {reason}.") from error


def read_member(file: zipfile.ZipFile, member: str, name: object) -> bytes:
    """A picture's file in a zip.

    Raises ValueError, with `name`, for one that is damaged, encrypted or larger than
    LARGEST_FILE.
    """
    with _open_member(file, member, name) as opened, reading(name):
        return opened.read(LARGEST_FILE + 1)


def _open_member(file: zipfile.ZipFile, member: str, name: object) -> io.BufferedIOBase:
    with reading(name):
        if file.getinfo(member).file_size > LARGEST_FILE:
            raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
        return cast(io.BufferedIOBase, file.open(member))


def _in_folder(root: pathlib.Path, column: str | None) -> tuple[list[Entry], list[str]]:
    captions: dict[pathlib.Path, list[str]] = {}
    tree = list_tree(root)
    left = list(tree.left)
    # Outer folders first: their listings may name pictures in the folders below.
    for folder in tree.folders:
        own: dict[pathlib.Path, list[str]] = {}
        pairs, others = captions_in(folder, column)
        for path, caption in pairs:
            own.setdefault(path, []).append(caption.strip())
        captions = own | captions
        inside = folder.path.relative_to(root)
        left += [(inside / name).as_posix() for name in others]
    entries = []
    for path in sorted(captions):
        status = path.stat()
        stamp = f"{status.st_size} {status.st_mtime_ns}"
        inside = path.is_relative_to(root)
        name = (path.relative_to(root) if inside else path.absolute()).as_posix()
        entries += [Entry(name, caption, stamp) for caption in captions[path]]
    return entries, left


def _in_zip(file: zipfile.ZipFile, column: str | None) -> tuple[list[Entry], list[str]]:
    members = file.infolist()
    infos = {x.filename: x for x in members if not is_hidden(x.filename)}
    names = sorted(name for name in infos if is_picture(name))
    captions: dict[str, str] = {}
    used = set(names)
    # Reversed, so that the first of two in one folder counts.
    for listing in reversed(LISTINGS):
        for name in infos:
            if name.rpartition("/")[2] == listing:
                used.add(name)
                text = _text(file, infos[name])
                pairs = parse_metadata(text, f"{file.filename}/{name}", column)
                parent = pathlib.PurePosixPath(name).parent
                captions |= {str(parent / own): words for own, words in pairs}
    beside = {name: text for name in names if (text := _beside(name, infos))}
    size = sum(infos[text].file_size for text in beside.values())
    if size > LARGEST_TEXT:
        raise ValueError(
            f"The captions in {file.filename} have {size:,} bytes, more than any need."
        )
    captions |= {name: _text(file, infos[x]).strip() for name, x in beside.items()}
    stamps = {name: f"{infos[name].file_size} {infos[name].CRC}" for name in names}
    used.update(beside.values())
    left = sorted(x for x in infos if x not in used and not x.endswith("/"))
    return [Entry(x, captions.get(x, ""), stamps[x]) for x in names], left


def _beside(name: str, names: Container[str]) -> str | None:
    """The name of the file with a picture's caption."""
    stem = name[: name.rindex(".")]
    return next((f"{stem}{x}" for x in TEXT_SUFFIXES if f"{stem}{x}" in names), None)


def _text(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    name = f"{file.filename}/{info.filename}"
    if info.file_size > LARGEST_TEXT:
        raise ValueError(
            f"{name} has {info.file_size:,} bytes, more than any text file needs."
        )
    try:
        data = file.read(info)
    except Exception as error:  # of any type for a damaged member
        raise ValueError(f"{name} cannot be read: {error}.") from error
    return decode_text(data, name)

"""WebDataset's tars as a picture set: samples by key, read at their offsets."""

import glob
import os
import pathlib
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from personax.core.decoding import LARGEST_FILE, decode, is_picture
from personax.core.files import (
    LARGEST_TEXT,
    decode_json,
    decode_text,
    digest,
    digest_contents,
    expand,
)
from personax.core.listing import is_hidden, say_left
from personax.data.headers import read_sizes
from personax.data.metadata import caption_of
from personax.data.picture import Picture

_CHECKED = 4096  # bytes at the beginning of a file
_BLOCK = 512  # bytes; a tar consists of such blocks
_CAPTIONS = ("txt", "caption", "json")  # in the order in which they are looked for
_TRIED = 100  # samples that are asked for a caption


class Part(NamedTuple):
    """A file in a tar: its first byte, its length, and a CRC of its beginning."""

    offset: int
    size: int
    check: int


class Sample(NamedTuple):
    """A picture in a tar, and the file of its caption."""

    tar: int  # the tar's number
    key: str
    picture: Part
    caption: Part | None = None
    kind: str = ""  # of the caption: one of `_CAPTIONS`


class Tars:
    """The samples with a picture of some tars, in the order of tars and samples."""

    skipped = ()

    def __init__(
        self,
        paths: Sequence[pathlib.Path],
        samples: Sequence[Sample],
        column: str | None = None,
    ):
        # A few numbers per sample: worker processes get a copy.
        self.paths, self.samples, self.column = paths, samples, column

    def __len__(self) -> int:
        return len(self.samples)

    def picture(self, index: int) -> Picture:
        sample = self.samples[index]
        data = self._read(sample, sample.picture)
        return Picture(decode(data, self._name(sample)), self.caption(sample))

    @property
    def captioned(self) -> bool:
        first = [each for each in self.samples if each.caption][:_TRIED]
        return any(self.caption(sample) for sample in first)

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        def read(index: int) -> bytes:
            sample = self.samples[index]
            return self._read(sample, sample.picture)

        stamps = [f"{each.tar} {each.key} {each.picture.size}" for each in self.samples]
        return read_sizes(stamps, read, key=f"tars {self.digest()}")

    def digest(self) -> str:
        names = (f"{path.name} {path.stat().st_size}\n" for path in self.paths)
        samples = (f"{tuple(each)}\n" for each in self.samples)
        return digest(self.column or "", *names, *samples)

    def contents(self) -> str:
        return digest_contents(self.paths)

    def caption(self, sample: Sample) -> str:
        """The caption of a sample, which may be empty."""
        if sample.caption is None:
            return ""
        name = f"{self._name(sample)}.{sample.kind}"
        text = decode_text(self._read(sample, sample.caption), f"The caption {name}")
        if sample.kind != "json":
            return text.strip()
        row = decode_json(text, f"The caption {name}")
        if not isinstance(row, dict):
            raise ValueError(f"The caption {name} is not of the form {{…}}.")
        return str(caption_of(row, self.column, name)).strip()

    def _name(self, sample: Sample) -> str:
        return f"{self.paths[sample.tar]}/{sample.key}"

    def _read(self, sample: Sample, part: Part) -> bytes:
        path = self.paths[sample.tar]
        try:
            # Opened for each read: processes and threads share no position in it.
            with path.open("rb") as file:
                file.seek(part.offset)
                data = file.read(part.size)
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error}.")
        if len(data) < part.size:
            raise ValueError(f"{path} has changed since it was opened.")
        return data


def open_tars(pattern: str, *, column: str | None = None) -> Tars:
    """The samples of a tar, of a folder's tars, or of those that match a pattern.

    Patterns are WebDataset's, "a-{000..099}.tar" and "{a,b}.tar", joined by "::", with
    the wildcards of a shell. Files are a sample whose names are equal up to the first
    dot: a picture, and its caption in .txt, .caption or .json, where it is `column`, by
    default "text" or "caption". With a column .json comes first.

    Raises FileNotFoundError where no tar matches, ValueError for one that is damaged or
    compressed, and where there is no picture or no such column.
    """
    paths = [path for each in pattern.split("::") for path in _matches(each)]
    samples: list[Sample] = []
    left: list[str] = []
    for number, path in enumerate(paths):
        samples += _samples(path, number, left, json_first=column is not None)
    say_left(f"wds:{pattern}", len(samples), left)
    tars = Tars(tuple(paths), tuple(samples), column)
    if column is not None:
        first = next((each for each in samples if each.kind == "json"), None)
        if first is None:
            raise ValueError(f"wds:{pattern} has no .json with a column {column!r}.")
        tars.caption(first)  # raises where there is no such column
    return tars


def _matches(pattern: str) -> list[pathlib.Path]:
    folder = expand(pattern)
    if folder.is_dir():
        paths = sorted(folder.glob("*.tar"))
        if not paths:
            raise FileNotFoundError(f"The folder {pattern} has no .tar file.")
        return paths
    paths = []
    for name in _expand(str(folder)):
        # A file comes before a pattern: its name may have brackets.
        named = [name] if os.path.isfile(name) else sorted(glob.glob(name))
        if not named:
            raise FileNotFoundError(f"There is no tar {name}.")
        paths += [pathlib.Path(each) for each in named]
    return paths


def _expand(pattern: str) -> Iterator[str]:
    """The names of "a-{000..002}.tar" and "{a,b}.tar"."""
    match = re.search(r"\{(\d+)\.\.(\d+)\}|\{([^{}]*,[^{}]*)\}", pattern)
    if not match:
        yield pattern
        return
    first, last, names = match.groups()
    if names is not None:
        inner: Iterable[str] = names.split(",")
    else:
        if int(first) > int(last):
            raise ValueError(f"{pattern}: {match[0]} counts down; expected 0..9.")
        # One after the other: a missing tar ends a range that is far too long.
        numbers = range(int(first), int(last) + 1)
        inner = (f"{number:0{len(first)}d}" for number in numbers)
    for name in inner:
        yield from _expand(pattern[: match.start()] + name + pattern[match.end() :])


def _samples(
    path: pathlib.Path, number: int, left: list[str], *, json_first: bool
) -> list[Sample]:
    """The samples of a tar that have a picture, in its order.

    The names of files that cannot be part of a sample are appended to `left`.
    """
    pictures: dict[str, Part] = {}
    captions: dict[str, dict[str, Part]] = {}
    for name, part in _parts(path):
        folder, _, base = name.rpartition("/")
        stem, _, extension = base.partition(".")
        key = f"{folder}/{stem}" if folder else stem
        extension = extension.lower()
        if is_hidden(name):
            continue
        if is_picture(base) and stem and part.size <= LARGEST_FILE:
            pictures.setdefault(key, part)
        elif extension in _CAPTIONS and part.size <= LARGEST_TEXT:
            captions.setdefault(key, {})[extension] = part
        else:
            left.append(name)
    order = ("json", *_CAPTIONS) if json_first else _CAPTIONS
    samples = []
    for key, part in pictures.items():
        own = captions.get(key, {})
        kind = next((kind for kind in order if kind in own), "")
        samples.append(Sample(number, key, part, own.get(kind), kind))
    return samples


def _parts(path: pathlib.Path) -> Iterator[tuple[str, Part]]:
    """(name, part) of each file of a tar. Raises ValueError for a damaged tar."""
    end = 0
    try:
        with tarfile.open(path, "r:") as tar, path.open("rb") as file:
            while member := tar.next():
                # Python 3.11 reads one of a negative size endlessly.
                if tar.offset <= end or member.size < 0:
                    raise ValueError(f"no valid header at byte {end}")
                end = tar.offset
                # tarfile keeps a kilobyte of each.
                tar.members.clear()  # pyright: ignore[reportAttributeAccessIssue]
                if member.isreg() and not member.issparse():
                    file.seek(member.offset_data)
                    check = zlib.crc32(file.read(min(member.size, _CHECKED)))
                    yield member.name, Part(member.offset_data, member.size, check)
            end = tar.offset
    except Exception as error:  # of any type for a damaged header
        hint = "; unpack a compressed one" if path.suffix != ".tar" else ""
        raise ValueError(f"{path} cannot be read as a tar: {error}{hint}.") from error
    # tarfile takes a damaged header for the end, which consists of zeros.
    with path.open("rb") as file:
        file.seek(end)
        if file.read(_BLOCK).strip(b"\0"):
            raise ValueError(
                f"{path} is damaged: it has no valid header at byte {end}."
            )

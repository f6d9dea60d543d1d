"""Folders of pictures: which files are read, and one line on those that are not."""

import os
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from personax.core.decoding import is_picture, suffixes
from personax.core.errors import notice_once

# A part of a path that starts with a dot, and what operating systems keep beside
# pictures. Windows writes zips with "\\".
_HIDDEN = re.compile(
    r"(?:^|[/\\])"
    r"(?:\.(?!\.?(?:[/\\]|$))"
    r"|(?:__MACOSX|@eaDir|\$RECYCLE\.BIN|Thumbs\.db|desktop\.ini)(?:[/\\]|$))"
)
# What personax writes beside pictures.
_OWN = ("settings.json", "samples.json")
_HEIF = (".heic", ".heif", ".hif")
_NAMED = 5  # of the names in a message


class Folder(NamedTuple):
    """The files of a folder, those that are pictures by name first; both sorted."""

    path: pathlib.Path
    pictures: list[pathlib.Path]
    others: list[str]


class Tree(NamedTuple):
    """A folder and all below it, and what of it is not read."""

    folders: list[Folder]
    left: list[str]


def is_hidden(name: str) -> bool:
    """Whether a file or a folder in the path `name` is hidden or a system's own."""
    return _HIDDEN.search(name) is not None


def list_folder(folder: pathlib.Path) -> Folder:
    """The pictures in a folder, and the names of all else except what is hidden.

    Names of folders end in "/". Raises OSError for a folder that cannot be read.
    """
    pictures, others = [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_hidden(entry.name) or entry.name in _OWN:
                continue
            if entry.is_file() and is_picture(entry.name):
                pictures.append(folder / entry.name)
            elif entry.is_dir():
                others.append(f"{entry.name}/")
            else:
                # A link without its file, or a pipe, is named with the others.
                others.append(entry.name)
    return Folder(folder, sorted(pictures), sorted(others))


def list_tree(root: pathlib.Path) -> Tree:
    """`list_folder` of `root` and of all folders below it, outer ones first.

    Links to folders are followed, after the folders themselves; no folder is read
    twice, and none through a link to a folder that contains `root`. Hidden folders are
    left, and those that cannot be read.
    """
    above = {_identity(folder) for folder in root.resolve().parents}
    pending, linked, seen = [root], [], set[tuple[int, int]]()
    folders, left = [], []
    while pending or linked:
        folder = (pending or linked).pop()
        name = f"{folder.relative_to(root).as_posix()}/"
        try:
            own = _identity(folder)
            if own in seen or own in above:
                continue
            seen.add(own)
            inside = list_folder(folder)
            left += _hidden_pictures(folder, root)
        except OSError as error:
            left.append(f"{name} ({error.strerror})")
            continue
        below = [folder / each for each in inside.others if each.endswith("/")]
        pending += [path for path in below if not path.is_symlink()]
        linked += [path for path in below if path.is_symlink()]
        files = [each for each in inside.others if not each.endswith("/")]
        folders.append(inside._replace(others=files))
    return Tree(sorted(folders), left)


def _identity(path: pathlib.Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def _hidden_pictures(folder: pathlib.Path, root: pathlib.Path) -> list[str]:
    """The hidden folders in a folder that hold pictures."""
    hidden = [x for x in folder.iterdir() if is_hidden(x.name) and x.is_dir()]
    return [
        f"{path.relative_to(root).as_posix()}/"
        for path in sorted(hidden)
        if any(is_picture(name) for name in os.listdir(path))
    ]


def say_left(
    source: object, count: int, left: Sequence[str], captions: Sequence[str] = ()
) -> None:
    """One line on what is not read beside `count` pictures; nothing where all is.

    Raises ValueError where there is no picture.
    """
    if not count:
        raise ValueError(no_picture(source, left))
    parts = [f"{count} picture{'s' * (count != 1)} in {source}"]
    if left:
        parts.append(f"not read: {_names(left)}")
    if captions:
        parts.append(
            f"captions ({captions[0]}{', …' * (len(captions) > 1)}) are not used; "
            "concept.captions own uses a concept's"
        )
    if parts[1:]:
        notice_once("; ".join(parts))


def no_picture(source: object, left: Sequence[str]) -> str:
    """The message for a folder or an archive without pictures."""
    if not left:
        return f"{source} holds no picture; it is empty."
    return f"{source} holds no picture; it has: {_names(left)}."


def _names(left: Sequence[str]) -> str:
    named, more = ", ".join(left[:_NAMED]), len(left) - _NAMED
    text = f"{named} and {more:,} more" if more > 0 else named
    unread = (name.lower().endswith(_HEIF) for name in left)
    if ".heic" not in suffixes() and any(unread):
        text += " (HEIC needs pip install 'personax[heif]')"
    return text

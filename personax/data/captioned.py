"""Captioned pictures in folders and lists: reading and writing."""

import json
import os
import pathlib
from collections.abc import Collection, Mapping
from typing import NamedTuple

from personax.core.files import expand, numbered_lines, read_text, write_text
from personax.core.listing import Folder, list_folder, say_left
from personax.data.metadata import LISTINGS, columns, parse_metadata

# Of the caption beside a picture, in the order in which they are looked for; the second
# is the default of kohya's trainer.
TEXT_SUFFIXES = (".txt", ".caption")


class Captioned(NamedTuple):
    """The path of a picture, and its caption."""

    path: pathlib.Path
    caption: str


def read_captioned(
    source: str | pathlib.Path,
    *,
    caption: str | None = None,
    column: str | None = None,
) -> list[Captioned]:
    """The pictures of a folder or a list, in its order, each with its caption.

    A folder holds metadata.jsonl or metadata.csv with a "file_name" and a "text" or
    "caption" (Hugging Face's imagefolder), or images.txt and caption.txt (Custom
    Diffusion's retrieval), or pictures beside .txt or .caption files of the same name.
    A list is a .jsonl or .csv file like these, or a .tsv or .txt file of
    "path<TAB>caption". Paths are relative to the file that holds them or, as the
    released retrieval writes them, to the working directory.

    `caption` is the one of pictures without a caption; `column` is another column of
    captions. What else a folder has is said on stderr. Raises ValueError where there is
    none, and for a picture, a folder or a form that does not exist; pictures are not
    opened.
    """
    source, left = expand(source), []
    if source.is_dir():
        folder = list_folder(source)
        pairs, left = captions_in(folder, column)
    elif source.is_file():
        pairs = _read_list(source, column)
    else:
        raise ValueError(f"There is no folder or list of pictures {source}.")
    say_left(source, len(pairs), left)
    result = []
    for path, text in pairs:
        own = text.strip() or caption
        if own is None:
            raise ValueError(
                f"The picture {path} has no caption, and there is no default"
                f"{_columns(source)}."
            )
        result.append(Captioned(path, own))
    return result


def write_captioned(folder: str | pathlib.Path, captions: Mapping[str, str]) -> None:
    """Write {file name: caption} as the folder's metadata.jsonl, atomically."""
    entries = ({"file_name": name, "text": text} for name, text in captions.items())
    lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    write_text(pathlib.Path(folder) / "metadata.jsonl", "".join(lines))


# Paths and captions, "" where there is none. A list, not a dict: a picture may be
# listed twice, with two captions.
_Pairs = list[tuple[pathlib.Path, str]]
_RETRIEVED = ("images.txt", "caption.txt")


def captions_in(folder: Folder, column: str | None) -> tuple[_Pairs, list[str]]:
    """A folder's pictures with their captions, and the files that are neither.

    Raises what `read_captioned` raises for a listing that is not of its form.
    """
    texts = caption_files(folder)
    left = [name for name in folder.others if name not in set(texts)]
    if not texts or texts[0] not in (*LISTINGS, *_RETRIEVED):
        beside = set(texts)
        return [(path, _text_beside(path, beside)) for path in folder.pictures], left
    retrieved = texts[0] in _RETRIEVED
    if retrieved:
        pairs = _read_retrieved(folder.path)
    else:
        pairs = _read_metadata(folder.path / texts[0], column)
    known = {path for path, _ in pairs}
    unlisted = [path for path in folder.pictures if path not in known]
    # Folders whose pictures the listing names.
    inside = (x.relative_to(folder.path) for x in known if folder.path in x.parents)
    named = {f"{path.parts[0]}/" for path in inside}
    left = [name for name in left if name not in named]
    if retrieved:
        return pairs, left + [path.name for path in unlisted]
    return pairs + [(path, "") for path in unlisted], left


def caption_files(folder: Folder) -> list[str]:
    """The names of the files in a folder that hold captions of its pictures."""
    others = set(folder.others)
    listing = next((name for name in LISTINGS if name in others), None)
    if listing:
        return [listing]
    if others.issuperset(_RETRIEVED):
        return list(_RETRIEVED)
    names = (
        path.with_suffix(suffix).name
        for path in folder.pictures
        for suffix in TEXT_SUFFIXES
    )
    return [name for name in dict.fromkeys(names) if name in others]


def _listing(folder: pathlib.Path) -> pathlib.Path | None:
    paths = (folder / name for name in LISTINGS)
    return next((path for path in paths if path.is_file()), None)


def _text_beside(picture: pathlib.Path, names: Collection[str]) -> str:
    texts = (picture.with_suffix(suffix) for suffix in TEXT_SUFFIXES)
    return next((read_text(text) for text in texts if text.name in names), "")


def _columns(source: pathlib.Path) -> str:
    """The columns of a folder's listing or of a list, for an error message."""
    listing = _listing(source) if source.is_dir() else source
    if listing is None or listing.suffix not in (".jsonl", ".csv"):
        return ""
    names = ", ".join(columns(read_text(listing), listing))
    return f"; {listing.name} has the columns {names}"


def _read_list(file: pathlib.Path, column: str | None) -> _Pairs:
    if file.suffix in (".jsonl", ".csv"):
        return _read_metadata(file, column)
    if file.suffix not in (".tsv", ".txt"):
        raise ValueError(
            f"{file} is not a list of pictures; expected a .jsonl, .csv, .tsv or .txt "
            "file."
        )
    pairs = (line.partition("\t") for _, line in numbered_lines(read_text(file)))
    return [(_picture(file, name), text) for name, _, text in pairs]


def _read_metadata(file: pathlib.Path, column: str | None) -> _Pairs:
    pairs = parse_metadata(read_text(file), file, column)
    return [(_picture(file, name), text) for name, text in pairs]


def _read_retrieved(folder: pathlib.Path) -> _Pairs:
    # Blank lines count: a caption belongs to the picture in the line of its number.
    images, captions = (
        read_text(folder / name).removesuffix("\n").split("\n")
        for name in ("images.txt", "caption.txt")
    )
    if len(images) != len(captions):
        raise ValueError(
            f"{folder} has {len(images)} lines in images.txt but {len(captions)} in "
            "caption.txt."
        )
    pairs = zip(images, captions, strict=True)
    listing = folder / "images.txt"
    return [(_picture(listing, name), text) for name, text in pairs if name.strip()]


def _picture(listing: pathlib.Path, name: str) -> pathlib.Path:
    own = expand(name.strip())
    path = listing.parent / own
    # Not Path.is_file, which raises OSError for a name that is too long.
    if os.path.isfile(path):
        return path
    if os.path.isfile(own):
        return own
    raise ValueError(f"{listing} names the picture {path}, which does not exist.")

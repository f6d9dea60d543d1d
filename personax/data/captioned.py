"""Captioned pictures: a folder or a list of them, read and written."""

import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from personax.core.images import SUFFIXES


class Captioned(NamedTuple):
    """Where a picture lies, and what it shows."""

    path: pathlib.Path
    caption: str


def read_captioned(
    source: str | pathlib.Path, *, caption: str | None = None
) -> list[Captioned]:
    """The pictures of a folder or a list, in its order, each with its caption.

    A folder holds metadata.jsonl with {"file_name", "text"} (Hugging Face's
    imagefolder), or images.txt and caption.txt (Custom Diffusion's retrieval), or
    pictures beside .txt files of the same name. A list is a .jsonl file like
    metadata.jsonl, or a .tsv or .txt file of "path<TAB>caption". Paths are relative to
    the file that holds them or, as the released retrieval writes them, to the working
    directory.

    A picture without a caption gets `caption`. Raises ValueError where there is none,
    and for a picture, a folder or a form that does not exist; pictures are not opened.
    """
    source = pathlib.Path(source)
    if source.is_dir():
        found = _read_folder(source)
    elif source.is_file():
        found = _read_list(source)
    else:
        raise ValueError(f"There is no folder or list of pictures {source}.")
    if not found:
        raise ValueError(f"{source} holds no picture ({', '.join(SUFFIXES)}).")
    return [_captioned(path, words, caption) for path, words in found]


def write_captioned(folder: str | pathlib.Path, captions: Mapping[str, str]) -> None:
    """Writes {file name: caption} as the folder's metadata.jsonl, in one piece.

    A reader, or a process that is killed here, sees the old file or this one.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = ({"file_name": name, "text": text} for name, text in captions.items())
    lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries)
    unfinished = folder / ".metadata.jsonl"
    unfinished.write_text("".join(lines), encoding="utf-8")
    os.replace(unfinished, folder / "metadata.jsonl")


def _captioned(path: pathlib.Path, words: str, default: str | None) -> Captioned:
    said = words.strip() or default
    if said is None:
        raise ValueError(f"The picture {path} has no caption, and none was given.")
    return Captioned(path, said)


# What the readers return: paths and captions, "" where there is none. A list, not a
# dict, as a picture may stand in it twice, with two captions.
_Pairs = list[tuple[pathlib.Path, str]]


def _read_folder(folder: pathlib.Path) -> _Pairs:
    # A leading dot marks what a file system left behind, such as ._photo.jpg.
    pictures = sorted(
        file
        for file in folder.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
    )
    if (folder / "metadata.jsonl").is_file():
        listed = _read_json_lines(folder / "metadata.jsonl")
        known = {path for path, _ in listed}
        return listed + [(path, "") for path in pictures if path not in known]
    if (folder / "images.txt").is_file() and (folder / "caption.txt").is_file():
        return _read_retrieved(folder)
    texts = [path.with_suffix(".txt") for path in pictures]
    captions = (_read(text) if text.is_file() else "" for text in texts)
    return list(zip(pictures, captions, strict=True))


def _read_list(file: pathlib.Path) -> _Pairs:
    if file.suffix == ".jsonl":
        return _read_json_lines(file)
    if file.suffix not in (".tsv", ".txt"):
        raise ValueError(
            f"{file} is no list of pictures; those are .jsonl, .tsv and .txt files."
        )
    pairs = (line.partition("\t") for _, line in _numbered(file))
    return [(_picture(file, name), words) for name, _, words in pairs]


def _read_json_lines(file: pathlib.Path) -> _Pairs:
    found = []
    for number, line in _numbered(file):
        try:
            entry = json.loads(line)
            name, words = entry["file_name"], entry.get("text") or ""
            found.append((_picture(file, name), words.strip()))
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f"Line {number} of {file} is not of the form "
                '{"file_name": "dog.png", "text": "a photo of a dog"}.'
            )
    return found


def _read_retrieved(folder: pathlib.Path) -> _Pairs:
    # Blank lines stay: a caption belongs to the picture in the line of its number.
    images, captions = (
        _read(folder / name).removesuffix("\n").split("\n")
        for name in ("images.txt", "caption.txt")
    )
    if len(images) != len(captions):
        raise ValueError(
            f"{folder} has {len(images)} lines in images.txt but {len(captions)} in "
            "caption.txt."
        )
    pairs = zip(images, captions, strict=True)
    listing = folder / "images.txt"
    return [(_picture(listing, name), words) for name, words in pairs if name.strip()]


def _picture(listing: pathlib.Path, name: str) -> pathlib.Path:
    path = listing.parent / name.strip()
    if path.is_file():
        return path
    if pathlib.Path(name.strip()).is_file():
        return pathlib.Path(name.strip())
    raise ValueError(f"{listing} names the picture {path}, which does not exist.")


def _numbered(file: pathlib.Path) -> Iterator[tuple[int, str]]:
    """The lines that are not blank, with their numbers."""
    # Not splitlines, which also splits at characters that captions may hold.
    for number, line in enumerate(_read(file).split("\n"), 1):
        if line.strip():
            yield number, line


def _read(file: pathlib.Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8.")

"""Sets of one's own: a folder of pictures for each subject."""

import functools
import pathlib
import re
from typing import get_args

from personax.data.subjects import (
    Kind,
    Readers,
    Subject,
    folders_in,
    pictures_in,
    read_text,
)


def open_folders(folder: pathlib.Path) -> Readers:
    """{name: what reads that subject} of the folders in `folder`.

    classes.csv, where there is one, says what they are, in lines "rex,dog,live" or
    "mug,coffee cup"; without it, rex_2 and other_dog are a "rex" and an "other dog".
    What is not said to be live is an object. Raises FileNotFoundError or ValueError
    where there is no folder, or for a line of another form.
    """
    there = folders_in(folder)
    if not there:
        raise FileNotFoundError(
            f"{folder} has no folder in it; it should have one for each subject."
        )
    said = dict.fromkeys(there, ("", "object"))
    said |= _read_classes(folder / "classes.csv", there)
    return {
        name: functools.partial(_subject, folder / name, *said[name]) for name in there
    }


def _read_classes(file: pathlib.Path, there: list[str]) -> dict[str, tuple[str, Kind]]:
    if not file.is_file():
        return {}
    found = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if not line.strip():
            continue
        name, *said = (part.strip() for part in line.split(","))
        if name not in there:
            raise ValueError(
                f"Line {number} of {file} says {name!r}, which is no folder; those "
                f"are: {', '.join(there)}."
            )
        class_word, kind = (*said, "object")[:2] if said else ("", "object")
        if not class_word or len(said) > 2 or kind not in get_args(Kind):
            raise ValueError(
                f"Line {number} of {file} is not of the form rex,dog,live or mug,cup: "
                f"{line!r}."
            )
        found[name] = class_word, kind
    return found


def _subject(folder: pathlib.Path, class_word: str, kind: Kind) -> Subject:
    class_word = class_word or re.sub(r"[\W\d_]+", " ", folder.name).strip()
    if not class_word:
        raise ValueError(
            f"{folder} is not called after a class; write {folder.name},dog to "
            "classes.csv beside it."
        )
    return Subject(folder.name, pictures_in(folder), class_word, kind)

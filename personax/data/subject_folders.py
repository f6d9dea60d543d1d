"""User-provided sets: a folder of pictures for each subject."""

import functools
import pathlib
import re
from typing import get_args

from personax.core.files import numbered_lines, read_text
from personax.data.subjects import Kind, Readers, Subject, folders_in, pictures_in


def open_folders(folder: pathlib.Path) -> Readers:
    """{name: reader of that subject} of the folders in `folder`.

    An optional classes.csv names their classes, in lines "rex,dog,live" or "mug,coffee
    cup"; without it, rex_2 and other_dog are a "rex" and an "other dog". The default
    kind is object. Raises FileNotFoundError where there is no folder, ValueError for a
    line of another form.
    """
    names = folders_in(folder)
    if not names:
        raise FileNotFoundError(
            f"{folder} has no folder in it; expected one for each subject."
        )
    classes = dict.fromkeys(names, ("", "object"))
    classes |= _read_classes(folder / "classes.csv", names)
    return {
        name: functools.partial(_subject, folder / name, *classes[name])
        for name in names
    }


def _read_classes(file: pathlib.Path, names: list[str]) -> dict[str, tuple[str, Kind]]:
    if not file.is_file():
        return {}
    classes = {}
    for number, line in numbered_lines(read_text(file)):
        name, *values = (part.strip() for part in line.split(","))
        if name not in names:
            raise ValueError(
                f"Line {number} of {file} names {name!r}, which is no folder; expected "
                f"one of {', '.join(names)}."
            )
        class_word, kind = (*values, "object")[:2] if values else ("", "object")
        if not class_word or len(values) > 2 or kind not in get_args(Kind):
            raise ValueError(
                f"Line {number} of {file} is not of the form rex,dog,live or mug,cup: "
                f"{line!r}."
            )
        classes[name] = class_word, kind
    return classes


def _subject(folder: pathlib.Path, class_word: str, kind: Kind) -> Subject:
    class_word = class_word or re.sub(r"[\W\d_]+", " ", folder.name).strip()
    if not class_word:
        raise ValueError(
            f"{folder} is not named after a class; write {folder.name},dog to "
            "classes.csv beside it."
        )
    return Subject(folder.name, pictures_in(folder), class_word, kind)

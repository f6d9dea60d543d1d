"""Subjects and pairs: published ones, and those in the folders of a user.

`published.py` reads whole sets.
"""

import functools
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

from personax.core.files import (
    decode_text,
    numbered_lines,
    read_json,
    read_lines,
    read_text,
)
from personax.core.listing import is_hidden, list_folder, no_picture

Kind = Literal["live", "object"]


class Subject(NamedTuple):
    """A subject to personalise, and the prompts that evaluate it."""

    name: str
    images: str  # a folder, or a bundled subject
    class_word: str
    kind: Kind
    prompts: tuple[str, ...] = ()  # the set's own, with {} for the subject
    prior_prompt: str = ""  # of its regularisation set; "": the method's own
    prior_images: str = ""  # a folder of such pictures, if the set has one


class Pair(NamedTuple):
    """Two subjects in one picture."""

    names: tuple[str, str]
    prompts: tuple[str, ...] = ()  # the set's own, with {0} and {1} for the subjects


# {name: reader of that subject}: of a large set only the selected ones are read.
Readers = Mapping[str, Callable[[], Subject]]


def pictures_in(folder: pathlib.Path) -> str:
    """The folder as a subject's `images`; no picture is opened.

    Raises FileNotFoundError, which lists the folders beside it, for one that does not
    exist, and ValueError for one without pictures.
    """
    if not os.path.isdir(folder):  # False also for names that no folder can have
        siblings = ", ".join(folders_in(folder.parent)) or "no folder"
        raise FileNotFoundError(
            f"There is no folder of pictures {folder}; {folder.parent} has: {siblings}."
        )
    inside = list_folder(folder)
    if not inside.pictures:
        raise ValueError(no_picture(folder, inside.others))
    return str(folder)


def folders_in(folder: pathlib.Path) -> list[str]:
    """Names of the folders in a folder except hidden ones; [] where it is missing."""
    if not os.path.isdir(folder):
        return []
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    return [path.name for path in inside if not is_hidden(path.name)]


def read_prompts(
    file: pathlib.Path,
    places: tuple[str, ...] = ("{}",),
    prepare: Callable[[str], str] = str,
) -> tuple[str, ...]:
    """The stripped lines of a file of prompts that are not blank, after `prepare`.

    Each must have one of the places and no others in braces: "{}" for a subject, or
    "{0}" and "{1}" for a pair, of which a prompt may have one alone, as one of
    CustomConcept101's does.

    Raises what `read_text` raises, and ValueError for a file without a prompt and for
    other places.
    """
    prompts = tuple(prepare(line) for line in read_lines(file))
    if not prompts:
        raise ValueError(f"The file {file} holds no prompt.")
    expected = " or ".join(places)
    for prompt in prompts:
        fields = re.findall(r"{[^{}]*}|[{}]", prompt)
        if not fields:
            raise ValueError(f"{prompt!r} in {file} has no {expected} for a subject.")
        for field in fields:
            if field not in places:
                raise ValueError(
                    f"{prompt!r} in {file} has {field}; expected {expected}."
                )
    return prompts


def read_list(file: pathlib.Path) -> list[Any]:
    """The list that a JSON file holds.

    Raises what `read_json` raises, and ValueError for any other file.
    """
    values = read_json(file)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{file} holds no list of concepts.")
    return values


def open_folders(folder: pathlib.Path) -> Readers:
    """{name: reader of that subject} of a folder with a folder of pictures for each.

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
    classes = _read_classes(folder / "classes.csv", names)
    return {
        name: functools.partial(_subject, folder / name, *classes.get(name, ()))
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


def _subject(
    folder: pathlib.Path, class_word: str = "", kind: Kind = "object"
) -> Subject:
    name = decode_text(os.fsencode(folder.name), f"The name of {folder}")
    class_word = class_word or re.sub(r"[\W\d_]+", " ", name).strip()
    if not class_word:
        raise ValueError(
            f"{folder} is not named after a class; write {folder.name},dog to "
            "classes.csv beside it."
        )
    return Subject(folder.name, pictures_in(folder), class_word, kind)

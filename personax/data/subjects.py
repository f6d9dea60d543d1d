"""Subjects and pairs to personalise, and helpers that read published sets of them.

`published.py` reads whole sets.
"""

import json
import pathlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

from personax.core.files import read_lines, read_text
from personax.core.images import SUFFIXES
from personax.data.captioned import is_picture

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
    if not folder.is_dir():
        siblings = ", ".join(folders_in(folder.parent)) or "no folder"
        raise FileNotFoundError(
            f"There is no folder of pictures {folder}; {folder.parent} has: {siblings}."
        )
    if not any(is_picture(file.name) for file in folder.iterdir()):
        raise ValueError(f"{folder} holds no picture ({', '.join(SUFFIXES)}).")
    return str(folder)


def folders_in(folder: pathlib.Path) -> list[str]:
    """Names of the folders in a folder except hidden ones; [] where it is missing."""
    if not folder.is_dir():
        return []
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    return [path.name for path in inside if not path.name.startswith(".")]


def read_prompts(file: pathlib.Path) -> list[str]:
    """The stripped lines of a file of prompts that are not blank.

    Raises what `read_text` raises, and ValueError for a file without a prompt.
    """
    lines = read_lines(file)
    if not lines:
        raise ValueError(f"The file {file} holds no prompt.")
    return lines


def check_places(prompt: str, places: Collection[str], source: object) -> str:
    """The prompt, after a check that it has one of the places and no others in braces.

    `places` are "{}" for a subject, or "{0}" and "{1}" for a pair: a prompt may have
    one of the two alone, as one of CustomConcept101's does. `source` is what errors
    name. Raises ValueError.
    """
    fields = re.findall(r"{[^{}]*}|[{}]", prompt)
    expected = " or ".join(places)
    if not fields:
        raise ValueError(f"{prompt!r} in {source} has no {expected} for a subject.")
    for field in fields:
        if field not in places:
            raise ValueError(
                f"{prompt!r} in {source} has {field}; expected {expected}."
            )
    return prompt


def read_list(file: pathlib.Path) -> list[Any]:
    """The list that a JSON file holds.

    Raises what `read_text` raises, and ValueError for any other file.
    """
    try:
        values = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON: {error}.")
    if not isinstance(values, list) or not values:
        raise ValueError(f"{file} holds no list of concepts.")
    return values

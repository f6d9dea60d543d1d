"""Who is taught and what is asked of them: the records, and what any set is read with.

`published.py` reads whole sets of them.
"""

import json
import pathlib
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, Literal, NamedTuple

from personax.core.images import SUFFIXES
from personax.data.files import is_picture

Kind = Literal["live", "object"]


class Subject(NamedTuple):
    """Whose pictures a concept is learned from, and what is asked of it afterwards."""

    name: str
    images: str  # a folder, or a bundled subject
    class_word: str
    kind: Kind
    prompts: tuple[str, ...] = ()  # the set's own; the subject stands at {}
    prior_prompt: str = ""  # what its regularisation set shows; "": the method's own
    prior_images: str = ""  # a folder of such pictures, "" where the set has none


class Pair(NamedTuple):
    """Two subjects for one picture."""

    names: tuple[str, str]
    prompts: tuple[str, ...] = ()  # the set's own; the subjects stand at {0} and {1}


# {name: what reads that subject}: of a large set only those are read that are asked.
Readers = Mapping[str, Callable[[], Subject]]


def pictures_in(folder: pathlib.Path) -> str:
    """The folder as a subject's `images`; no picture is opened.

    Raises FileNotFoundError where it does not exist, naming those beside it, and
    ValueError where it holds no picture.
    """
    if not folder.is_dir():
        there = ", ".join(folders_in(folder.parent)) or "no folder at all"
        raise FileNotFoundError(
            f"There is no folder of pictures {folder}; beside it there is: {there}."
        )
    if not any(is_picture(file.name) for file in folder.iterdir()):
        raise ValueError(f"{folder} holds no picture ({', '.join(SUFFIXES)}).")
    return str(folder)


def folders_in(folder: pathlib.Path) -> list[str]:
    """Names of the folders in a folder, hidden ones apart; [] where there is none."""
    if not folder.is_dir():
        return []
    inside = sorted(path for path in folder.iterdir() if path.is_dir())
    return [path.name for path in inside if not path.name.startswith(".")]


def read_prompts(file: pathlib.Path) -> list[str]:
    """The lines of a file of prompts that are not blank, without space around them.

    Raises FileNotFoundError or ValueError for a file that is none.
    """
    lines = [line.strip() for line in read_text(file).splitlines()]
    if not any(lines):
        raise ValueError(f"The file {file} holds no prompt.")
    return [line for line in lines if line]


def check_places(prompt: str, places: Collection[str], where: object) -> str:
    """The prompt, which has one of the places and no others in curly brackets.

    `places` are "{}" of a subject, or "{0}" and "{1}" of a pair: a prompt may speak of
    one of the two alone, as one of CustomConcept101's does.
    """
    found = re.findall(r"{[^{}]*}|[{}]", prompt)
    if not found:
        wanted = " or ".join(places)
        raise ValueError(f"{prompt!r} in {where} has no place for a subject: {wanted}.")
    for each in found:
        if each not in places:
            raise ValueError(
                f"{prompt!r} in {where} has {each}; a subject's place is "
                f"{' or '.join(places)}."
            )
    return prompt


def read_text(file: pathlib.Path) -> str:
    """A file's text. Raises FileNotFoundError, or ValueError for what is not UTF-8."""
    if not file.is_file():
        there = sorted(path.name for path in file.parent.glob(f"*{file.suffix}"))
        raise FileNotFoundError(
            f"There is no file {file}; {file.parent} has: "
            f"{', '.join(there) or f'no {file.suffix} file'}."
        )
    try:
        return file.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError:
        raise ValueError(f"{file} is no text in UTF-8.")


def read_list(file: pathlib.Path) -> list[Any]:
    """The list that a JSON file holds.

    Raises as `read_text`, and ValueError for any other file.
    """
    try:
        found = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is no JSON: {error}.")
    if not isinstance(found, list) or not found:
        raise ValueError(f"{file} holds no list of concepts.")
    return found

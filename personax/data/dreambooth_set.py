"""The DreamBooth set (Ruiz et al. 2022), as github.com/google/dreambooth has it.

Its folder dataset/ holds a folder of pictures for each of 30 subjects, and
prompts_and_classes.txt.
"""

import functools
import pathlib
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from personax.core.files import numbered_lines, read_text
from personax.data.subjects import Kind, Readers, Subject, pictures_in


class Listing(NamedTuple):
    """The content of prompts_and_classes.txt."""

    classes: dict[str, str]  # {"backpack_dog": "backpack"}
    prompts: dict[Kind, tuple[str, ...]]  # 25 each, the subject at {}


def open_dreambooth(folder: pathlib.Path) -> Readers:
    """{name: reader of that subject} of the set in `folder`.

    Raises FileNotFoundError or ValueError for any other folder.
    """
    listing = read_listing(folder / "prompts_and_classes.txt")
    return {
        name: functools.partial(_subject, folder, name, listing)
        for name in listing.classes
    }


def read_listing(file: pathlib.Path) -> Listing:
    """The classes and the two lists of prompts, distinguished by their headers.

    Both lists have the same name in the file, prompt_list. Raises FileNotFoundError,
    and ValueError for an unexpected line or a missing part.
    """
    header = ""
    parts: dict[str, list] = {}
    for number, line in numbered_lines(read_text(file)):
        if line in ("Classes", "Prompts", *_LISTS):
            header, parts[line] = line, []
        elif line not in _DECORATION:
            place = f"Line {number} of {file}"
            if header not in _READ:
                headers = ", ".join(_READ)
                raise ValueError(f"{place} is under none of {headers}: {line!r}.")
            parts[header].append(_READ[header](line, place))
    for header in _READ:
        if not parts.get(header):
            headers = ", ".join(parts) or "no header"
            raise ValueError(f"{file} has nothing under {header!r}; it has: {headers}.")
    return Listing(
        classes=dict(parts["Classes"]),
        prompts={kind: tuple(parts[header]) for header, kind in _LISTS.items()},
    )


def _read_class(line: str, place: str) -> tuple[str, str]:
    row = re.fullmatch(r"([\w-]+)\s*,\s*(\w[\w -]*)", line)
    if not row:
        raise ValueError(f"{place} is not of the form cat2,cat: {line!r}.")
    return row[1], row[2]


def _read_prompt(line: str, place: str) -> str:
    match = re.fullmatch(r"(['\"])(.*)\1\.format\(unique_token, class_token\),?", line)
    if not match:
        raise ValueError(
            f"{place} is not of the form 'a {{0}} {{1}} in the jungle'"
            f".format(unique_token, class_token): {line!r}."
        )
    before, subject, after = match[2].partition("{0} {1}")
    if not subject or re.search("[{}]", before + after):
        raise ValueError(f"{place} does not hold {{0}} {{1}} once: {line!r}.")
    return f"{before}{{}}{after}"


_LISTS: dict[str, Kind] = {"Object Prompts": "object", "Live Subject Prompts": "live"}
_READ: dict[str, Callable[[str, str], Any]] = {
    "Classes": _read_class,
    **dict.fromkeys(_LISTS, _read_prompt),
}
_DECORATION = ("subject_name,class", "prompt_list = [", "]")
_LIVE = ("cat", "dog")  # classes of live subjects


def _subject(folder: pathlib.Path, name: str, listing: Listing) -> Subject:
    class_word = listing.classes[name]
    kind: Kind = "live" if class_word in _LIVE else "object"
    images = pictures_in(folder / name)
    return Subject(name, images, class_word, kind, listing.prompts[kind])

"""The folders of kohya's trainer: "10_sks dog" has ten repeats of sks dog."""

import os
import pathlib
import re
from typing import NamedTuple

from personax.core.files import decode_text
from personax.core.listing import list_folder

_NAME = re.compile(r"([1-9]\d*)_(.*\S.*)")


class Subset(NamedTuple):
    """A folder of pictures, how often each counts, and their caption by default."""

    folder: pathlib.Path
    repeats: int
    words: str


def subsets(folder: pathlib.Path) -> list[Subset]:
    """The folder itself where its name is kohya's, or else such folders in it.

    [] for any other folder, and for one with pictures of its own.
    """
    own = _subset(folder)
    inside = list_folder(folder)
    if own or inside.pictures:
        return [own] if own else []
    inner = (_subset(folder / x) for x in inside.others if x.endswith("/"))
    return [subset for subset in inner if subset]


def _subset(folder: pathlib.Path) -> Subset | None:
    match = _NAME.fullmatch(folder.absolute().name)
    if not match:
        return None
    words = decode_text(os.fsencode(match[2]), f"The name of {folder}")
    return Subset(folder, int(match[1]), words.strip())

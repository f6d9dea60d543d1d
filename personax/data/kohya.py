"""The folders of kohya's trainer: "10_sks dog" has ten repeats of sks dog."""

import pathlib
import re
from typing import NamedTuple

from personax.core.images import is_picture

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
    if own or any(is_picture(path.name) for path in folder.iterdir()):
        return [own] if own else []
    inner = (_subset(path) for path in sorted(folder.iterdir()) if path.is_dir())
    return [subset for subset in inner if subset]


def _subset(folder: pathlib.Path) -> Subset | None:
    match = _NAME.fullmatch(folder.absolute().name)
    return match and Subset(folder, int(match[1]), match[2].strip())

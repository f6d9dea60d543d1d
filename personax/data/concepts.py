"""Few-shot sets: the pictures of a concept, and which of them each step sees."""

import pathlib
from collections.abc import Sequence

import numpy as np

from personax.data import emoji
from personax.images import Pixels, read_images


def pictures(source: str) -> list[Pixels]:
    """uint8 pictures, as large as they are, of a folder or of a bundled subject.

    Raises ValueError, naming what exists, where `source` is neither.
    """
    folder = pathlib.Path(source)
    if folder.is_dir():
        files = read_images(folder)
    else:
        subjects = emoji.subjects()
        if source not in subjects:
            raise ValueError(
                f"{source!r} is neither a folder nor a bundled subject; those are: "
                f"{', '.join(subjects)}."
            )
        files = read_images(subjects[source].images)
    return list(files.values())


def visit(count: int, turn: int, seed: Sequence[int]) -> int:
    """Which of `count` examples comes `turn`-th; every epoch is its own permutation.

    It depends on its arguments alone, so that a resumed run sees what it would have.
    """
    epoch, place = divmod(turn, count)
    return int(np.random.default_rng([*seed, epoch]).permutation(count)[place])

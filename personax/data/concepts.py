"""Few-shot sets: the pictures of a concept, and which of them each step sees."""

import pathlib
from collections.abc import Mapping

import numpy as np

from personax.core.images import Mask, Pixels, read_images
from personax.data import emoji


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


def masks(source: str, pictures: str) -> list[Mask]:
    """A soft mask for each picture of a folder, from the file of the same name.

    The brightest pixel of each counts fully, as in Infusion's release. Raises
    ValueError, naming the picture, for one without a mask of its own size.
    """
    if not pathlib.Path(pictures).is_dir():
        raise ValueError(f"Masks need a folder of pictures, and {pictures!r} is none.")
    found = {path.stem: pixels for path, pixels in read_images(source).items()}
    return [
        _mask(path, pixels, found) for path, pixels in read_images(pictures).items()
    ]


def _mask(path: pathlib.Path, pixels: Pixels, found: Mapping[str, Pixels]) -> Mask:
    if path.stem not in found:
        raise ValueError(
            f"No mask is called {path.stem}; there are: {', '.join(found)}."
        )
    mask = found[path.stem].mean(axis=-1)
    if mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"The mask {path.stem} has {mask.shape[1]}x{mask.shape[0]} pixels, its "
            f"picture {pixels.shape[1]}x{pixels.shape[0]}."
        )
    if not mask.any():
        raise ValueError(f"The mask {path.stem} is black: nothing would be learned.")
    return np.round(255 * mask / mask.max()).astype(np.uint8)

"""The pictures of a concept, and their masks."""

import pathlib
from collections.abc import Mapping

import numpy as np

from personax.core.images import Mask, Pixels, read_images
from personax.data import emoji


def pictures(source: str) -> list[Pixels]:
    """The pictures of a folder or of a bundled subject, in their own sizes.

    Raises ValueError, with the bundled subjects, for any other source.
    """
    folder = pathlib.Path(source)
    if folder.is_dir():
        files = read_images(folder)
    else:
        subjects = emoji.subjects()
        if source not in subjects:
            raise ValueError(
                f"{source!r} is neither a folder nor a bundled subject "
                f"({', '.join(subjects)})."
            )
        files = read_images(subjects[source].images)
    return list(files.values())


def masks(source: str, pictures: str) -> list[Mask]:
    """A soft mask for each picture of a folder, from the file of the same name.

    Each is scaled to a maximum of 255, as in Infusion's release. Raises ValueError for
    a picture without a mask of its size.
    """
    if not pathlib.Path(pictures).is_dir():
        raise ValueError(f"Masks need a folder of pictures; {pictures!r} is none.")
    masks = {path.stem: pixels for path, pixels in read_images(source).items()}
    return [
        _mask(path, pixels, masks) for path, pixels in read_images(pictures).items()
    ]


def _mask(path: pathlib.Path, pixels: Pixels, masks: Mapping[str, Pixels]) -> Mask:
    if path.stem not in masks:
        raise ValueError(
            f"There is no mask {path.stem}; the folder has: {', '.join(masks)}."
        )
    mask = masks[path.stem].mean(axis=-1)
    if mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"The mask {path.stem} has {mask.shape[1]}x{mask.shape[0]} pixels, its "
            f"picture {pixels.shape[1]}x{pixels.shape[0]}."
        )
    if not mask.any():
        raise ValueError(f"The mask {path.stem} is black: no pixel would count.")
    return np.round(255 * mask / mask.max()).astype(np.uint8)

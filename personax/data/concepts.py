"""The pictures of a concept, their captions, and their masks."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from personax.core.images import Mask, Pixels, read_images
from personax.data import emoji
from personax.data.captioned import read_captioned
from personax.data.kohya import subsets


class OwnPicture(NamedTuple):
    """A picture with a caption of its own, and how often it counts in an epoch."""

    path: pathlib.Path
    caption: str
    repeats: int = 1


def pictures(source: str) -> list[Pixels]:
    """The pictures of a folder or of a bundled subject, in their own sizes.

    Raises ValueError, with the bundled subjects, for any other source.
    """
    folder = pathlib.Path(source)
    if folder.is_dir():
        inner = [each.folder for each in subsets(folder)]
        if inner and inner != [folder]:
            raise ValueError(
                f"{source} holds kohya's folders ({', '.join(x.name for x in inner)}); "
                "name one of them, or train on all with concept.captions own."
            )
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


def own_pictures(source: str, column: str | None = None) -> list[OwnPicture]:
    """The pictures of a folder or a list with captions; they are not opened.

    Captions are those of `read_captioned`. In kohya's folders, such as "10_sks dog" or
    a folder of these, a picture without one has the folder's words, and counts as often
    as the folder's number says (of one folder alone, once). Raises ValueError, with its
    name, for a picture without a caption, and what `read_captioned` raises.
    """
    path = pathlib.Path(source)
    if not path.exists():
        if source in emoji.subjects():
            raise ValueError(f"The bundled subject {source!r} has no captions.")
        raise ValueError(f"There is no folder or list of pictures {source}.")
    kohya = subsets(path) if path.is_dir() else []
    if not kohya:
        return [OwnPicture(*each) for each in read_captioned(path, column=column)]
    shared = math.gcd(*(each.repeats for each in kohya))
    return [
        OwnPicture(*each, repeats=subset.repeats // shared)
        for subset in kohya
        for each in read_captioned(subset.folder, caption=subset.words, column=column)
    ]


def masks(source: str, pictures: str) -> list[Mask]:
    """A soft mask for each picture of a folder, from the file of the same name.

    Each is scaled to a maximum of 255, as in Infusion's release. Raises ValueError for
    a picture without a mask of its size.
    """
    if not pathlib.Path(pictures).is_dir():
        raise ValueError(f"Masks need a folder of pictures; {pictures!r} is none.")
    read = read_images(pictures)
    return masks_of(source, list(read), list(read.values()))


def masks_of(
    source: str, paths: Sequence[pathlib.Path], pictures: Sequence[Pixels]
) -> list[Mask]:
    """`masks` for these files and their pixels."""
    masks = {path.stem: pixels for path, pixels in read_images(source).items()}
    return [
        _mask(path, pixels, masks) for path, pixels in zip(paths, pictures, strict=True)
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

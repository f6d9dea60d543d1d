"""The pictures of a concept, their captions, and their masks."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from personax.core.files import expand
from personax.core.images import (
    Mask,
    Pixels,
    pictures_of,
    read_image,
    read_images,
    read_masks,
)
from personax.core.listing import list_folder, no_picture, say_left
from personax.data import emoji
from personax.data.captioned import caption_files, read_captioned
from personax.data.kohya import subsets


class OwnPicture(NamedTuple):
    """A picture with a caption of its own, and how often it counts in an epoch."""

    path: pathlib.Path
    caption: str
    repeats: int = 1


def pictures(source: str) -> list[Pixels]:
    """The pictures of a folder or of a bundled subject, in their own sizes.

    What else a folder has, and captions, are said on stderr. Raises ValueError, with
    the bundled subjects, for any other source.
    """
    path = expand(source)
    if not path.is_dir():
        subjects = emoji.subjects()
        if source not in subjects:
            raise ValueError(
                f"{source!r} is neither a folder nor a bundled subject "
                f"({', '.join(subjects)})."
            )
        return list(read_images(subjects[source].images).values())
    inner = [each.folder for each in subsets(path)]
    if inner and inner != [path]:
        raise ValueError(
            f"{source} holds kohya's folders ({', '.join(x.name for x in inner)}); "
            "name one of them, or train on all with concept.captions own."
        )
    folder = list_folder(path)
    if not folder.pictures:
        raise ValueError(no_picture(source, folder.others))
    captions = caption_files(folder)
    left = [name for name in folder.others if name not in set(captions)]
    say_left(source, len(folder.pictures), left, captions)
    return [read_image(file) for file in folder.pictures]


def class_of(source: str) -> str | None:
    """The class word of a bundled subject, None for a folder or any other source."""
    if pathlib.Path(source).is_dir():
        return None
    subject = emoji.subjects().get(source)
    return subject and subject.class_word


def own_pictures(source: str, column: str | None = None) -> list[OwnPicture]:
    """The pictures of a folder or a list with captions; they are not opened.

    Captions are those of `read_captioned`. In kohya's folders, such as "10_sks dog" or
    a folder of these, a picture without one has the folder's words, and counts as often
    as the folder's number says (of one folder alone, once). Raises ValueError, with its
    name, for a picture without a caption, and what `read_captioned` raises.
    """
    path = expand(source)
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
    folder = expand(pictures)
    if not folder.is_dir():
        raise ValueError(f"Masks need a folder of pictures; {pictures!r} is none.")
    read = read_images(list_folder(folder).pictures)
    return masks_of(source, list(read), list(read.values()))


def masks_of(
    source: str, paths: Sequence[pathlib.Path], pictures: Sequence[Pixels]
) -> list[Mask]:
    """`masks` for these files and their pixels."""
    read = read_masks(pictures_of(source))
    masks = {path.stem: mask for path, mask in read.items()}
    return [
        _mask(path, pixels, masks) for path, pixels in zip(paths, pictures, strict=True)
    ]


def _mask(path: pathlib.Path, pixels: Pixels, masks: Mapping[str, Mask]) -> Mask:
    if path.stem not in masks:
        raise ValueError(
            f"There is no mask {path.stem}; the folder has: {', '.join(masks)}."
        )
    mask = masks[path.stem]
    if mask.shape != pixels.shape[:2]:
        raise ValueError(
            f"The mask {path.stem} has {mask.shape[1]}x{mask.shape[0]} pixels, its "
            f"picture {pixels.shape[1]}x{pixels.shape[0]}."
        )
    if not mask.any():
        raise ValueError(f"The mask {path.stem} is black: no pixel would count.")
    return np.round(255.0 * mask / mask.max()).astype(np.uint8)

"""FFHQ and AFHQv2 for TensorFlow Datasets, from the user's downloads."""

import os
import pathlib
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from personax.core.decoding import is_picture, read_file, verify
from personax.core.listing import is_hidden, list_tree
from personax.data.files import open_zip, read_member

LABELS = ("cat", "dog", "wild")


class Ffhq(tfds.core.GeneratorBasedBuilder):
    """FFHQ (Karras et al. 2019): 70,000 faces of 1024x1024 pixels, or another size.

    One split, "train", of all that was downloaded in the order of their names: the
    paper's validation part is "train[60000:]". Pictures are kept encoded.
    """

    VERSION = tfds.core.Version("1.0.0")
    HOMEPAGE = "https://github.com/NVlabs/ffhq-dataset"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download images1024x1024 from {HOMEPAGE}, as a folder or a zip."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return _info_of(self)

    def _split_generators(self, dl_manager):
        source = source_of(dl_manager.manual_dir)
        return {"train": self._generate_examples(source, pictures(source))}

    def _generate_examples(self, source, names):
        for number, (name, data) in enumerate(read(source, names)):
            yield number, {"image": data, "name": name}


class Afhqv2(tfds.core.GeneratorBasedBuilder):
    """AFHQv2 (Choi et al. 2020): 15,803 animal faces of 512x512 pixels, in 3 classes.

    Each is labelled cat, dog or wild. The splits are the release's "train" and "test";
    "train+test" is all. Pictures are kept encoded.
    """

    VERSION = tfds.core.Version("1.0.0")
    HOMEPAGE = "https://github.com/clovaai/stargan-v2"
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download afhq-v2-dataset from {HOMEPAGE}, as a folder or a zip."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return _info_of(self, label=tfds.features.ClassLabel(names=list(LABELS)))

    def _split_generators(self, dl_manager):
        source = source_of(dl_manager.manual_dir)
        splits: dict[str, list[str]] = {"train": [], "test": []}
        for name in pictures(source):
            # With or without a folder above: afhq/train/cat/…, or train/cat/….
            split, label = ("", "", *pathlib.PurePosixPath(name).parts)[-3:-1]
            if split in splits and label in LABELS:
                splits[split].append(name)
        missing = [split for split, names in splits.items() if not names]
        if missing:
            labels = ",".join(LABELS)
            raise ValueError(
                f"{source} is not AFHQv2: it has no {missing[0]}/{{{labels}}}/*.png."
            )
        return {
            split: self._generate_examples(source, names)
            for split, names in splits.items()
        }

    def _generate_examples(self, source, names):
        for number, (name, data) in enumerate(read(source, names)):
            label = pathlib.PurePosixPath(name).parts[-2]
            yield number, {"image": data, "label": label, "name": name}


def _info_of(builder: Any, **features: Any) -> tfds.core.DatasetInfo:
    return tfds.core.DatasetInfo(
        builder=builder,
        description=builder.__doc__,
        homepage=builder.HOMEPAGE,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(),
                **features,
                "name": tfds.features.Text(),
            }
        ),
        disable_shuffling=True,
    )


def pictures(source: pathlib.Path) -> list[str]:
    """The paths of all pictures in a folder or zip, sorted.

    Raises ValueError where there is none.
    """
    if source.is_dir():
        paths = (path for each in list_tree(source).folders for path in each.pictures)
        names = [path.relative_to(source).as_posix() for path in paths]
    else:
        with open_zip(source) as file:
            names = [x for x in file.namelist() if is_picture(x) and not is_hidden(x)]
    if not names:
        raise ValueError(f"{source} holds no picture.")
    return sorted(names)


def read(source: pathlib.Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    """(name, encoded picture) of these names; damaged ones are reported and skipped.

    A damaged picture has no readable header, or wrong checksums.
    """
    skipped, archive = 0, None if source.is_dir() else open_zip(source)
    for name in names:
        path = source / name
        try:
            data = read_member(archive, name, path) if archive else read_file(path)
            verify(data, path)
        except ValueError as error:
            skipped += 1
            print(f"skipped ({skipped} so far): {error}")
            continue
        yield name, data


def source_of(manual_dir: os.PathLike[str]) -> pathlib.Path:
    """The folder itself, or the zip that is all it holds."""
    folder = pathlib.Path(manual_dir)
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if len(inside) == 1 and inside[0].suffix == ".zip":
        return inside[0]
    return folder

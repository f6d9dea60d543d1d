"""AFHQv2 (Choi et al. 2020) for TensorFlow Datasets, from the user's download."""

import pathlib

import tensorflow_datasets as tfds

from personax.data.tfds.archive import pictures, read, source_of

_HOMEPAGE = "https://github.com/clovaai/stargan-v2"
LABELS = ("cat", "dog", "wild")


class Afhqv2(tfds.core.GeneratorBasedBuilder):
    """15,803 animal faces of 512x512 pixels, each labelled cat, dog or wild.

    The splits are the release's "train" and "test"; "train+test" is all. Pictures are
    kept encoded.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download afhq-v2-dataset from {_HOMEPAGE}, as a folder or a zip."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=Afhqv2.__doc__,
            homepage=_HOMEPAGE,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(),
                    "label": tfds.features.ClassLabel(names=list(LABELS)),
                    "name": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

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
        for number, file in enumerate(read(source, names)):
            label = pathlib.PurePosixPath(file.name).parts[-2]
            yield number, {"image": file.data, "label": label, "name": file.name}

"""FFHQ (Karras et al. 2019) for TensorFlow Datasets, from the user's download."""

import tensorflow_datasets as tfds

from personax.data.tfds.archive import pictures, read, source_of

_HOMEPAGE = "https://github.com/NVlabs/ffhq-dataset"


class Ffhq(tfds.core.GeneratorBasedBuilder):
    """70,000 faces of 1024x1024 pixels, or of any other size that was downloaded.

    One split, "train", of all of them in the order of their names: the paper's
    validation part is "train[60000:]". Pictures are kept encoded.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Download images1024x1024 from {_HOMEPAGE}, as a folder or a zip."
    )

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            description=Ffhq.__doc__,
            homepage=_HOMEPAGE,
            features=tfds.features.FeaturesDict(
                {"image": tfds.features.Image(), "name": tfds.features.Text()}
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(source_of(dl_manager.manual_dir))}

    def _generate_examples(self, source):
        for number, file in enumerate(read(source, pictures(source))):
            yield number, {"image": file.data, "name": file.name}

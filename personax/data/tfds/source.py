"""Prepared TensorFlow Datasets as picture sets, without TensorFlow."""

import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from personax.core.decoding import decode, reading
from personax.core.files import decode_text, digest, digest_contents, expand
from personax.data.headers import read_sizes
from personax.data.picture import Picture

_CAPTIONS = ("caption", "text")  # features that hold captions


class Tfds:
    """The pictures of a split, with their captions or else their labels as captions."""

    skipped = ()

    def __init__(self, name: str, data_dir: str, split: str):
        self.name, self.split = name, split
        self.data_dir = str(expand(data_dir)) if data_dir else ""
        features = self._builder.info.features
        self._image = _image_key(name, features)
        self._caption_key = next((key for key in _CAPTIONS if key in features), None)
        label = dict(features.items()).get("label")
        self._labels: Sequence[str] = getattr(label, "names", None) or ()
        self._count = len(self._source)

    def __reduce__(self):
        # Each process opens the files for itself.
        return type(self), (self.name, self.data_dir, self.split)

    def __len__(self) -> int:
        return self._count

    @property
    def captioned(self) -> bool:
        return bool(self._caption_key or self._labels)

    def picture(self, index: int) -> Picture:
        name, caption = self._name(index), ""
        with reading(name):  # array_record raises errors of its own
            example = self._source[index]
        if self._caption_key:
            caption = decode_text(example[self._caption_key], f"The caption of {name}")
        elif self._labels:
            caption = self._labels[int(example["label"])].replace("_", " ")
        return Picture(decode(example[self._image], name), caption)

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        def read(index: int) -> bytes:
            with reading(self._name(index)):
                return self._source[index][self._image]

        own = self.digest()
        return read_sizes([own] * len(self), read, key=f"tfds {own}")

    def digest(self) -> str:
        info = self._builder.info
        parts = [info.full_name, self.split, len(self)]
        parts += [info.splits[name].num_bytes for name in info.splits]
        return digest(repr(parts))

    def _name(self, index: int) -> str:
        return f"picture {index} of tfds:{self.name}, {self.split},"

    def contents(self) -> str:
        folder = pathlib.Path(self._builder.data_path)
        return digest_contents(sorted(folder.glob("*")))

    @functools.cached_property
    def _builder(self) -> Any:
        import tensorflow_datasets as tfds

        try:
            return tfds.builder(self.name, data_dir=self.data_dir or None)
        except tfds.core.DatasetNotFoundError:
            raise ValueError(
                f"There is no data set tfds:{self.name} in "
                f"{self.data_dir or 'the default data_dir'}; python -m personax.build "
                "builds ffhq and afhqv2."
            )
        except Exception as error:  # of any type, by what its files hold
            raise ValueError(f"tfds:{self.name} cannot be read: {error}.") from error

    @functools.cached_property
    def _source(self) -> Sequence[Any]:
        import tensorflow_datasets as tfds

        builder = self._builder
        if not builder.is_prepared():
            raise ValueError(
                f"tfds:{self.name} is not prepared in {self.data_dir or 'data_dir'}."
            )
        decoders = {self._image: tfds.decode.SkipDecoding()}
        try:
            return builder.as_data_source(split=self.split, decoders=decoders)
        except NotImplementedError:
            raise ValueError(
                f"tfds:{self.name} is stored as {builder.info.file_format.value}, "
                "which cannot be read by number; prepare it again with "
                "file_format='array_record'."
            )
        except Exception as error:  # array_record's own, of a damaged file
            raise ValueError(f"tfds:{self.name} cannot be read: {error}.") from error


def open_tfds(name: str, *, data_dir: str = "", split: str = "train") -> Tfds:
    """The prepared data set's split, such as "train+test" or "train[:1000]".

    Raises ValueError where it, or the extra that reads it, is not installed.
    """
    try:
        import tensorflow_datasets  # noqa: F401
    except ImportError as error:
        raise ValueError(f"tfds:{name} needs pip install 'personax[data]': {error}.")
    return Tfds(name, data_dir, split)


def _image_key(name: str, features: Any) -> str:
    import tensorflow_datasets as tfds

    for key, feature in features.items():
        if isinstance(feature, tfds.features.Image):
            return key
    raise ValueError(f"tfds:{name} has no picture; it has {', '.join(features)}.")

"""Hugging Face data sets that `save_to_disk` wrote, as picture sets."""

import functools
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Int

from personax.core.decoding import decode, read_file, reading
from personax.core.files import digest, digest_contents, expand
from personax.data.headers import read_sizes
from personax.data.metadata import COLUMNS, caption_of
from personax.data.picture import Picture


class Saved:
    """The pictures of a data set's split, with a column's values as captions.

    The caption of a class label is its name; of a list of captions it is the first.
    """

    skipped = ()

    def __init__(self, folder: str, split: str, image: str | None, caption: str | None):
        self._arguments = (folder, split, image, caption)
        self.folder = expand(folder)
        features = self._rows.features
        self.image = _image_column(folder, features, image)
        if caption and caption not in features:
            raise ValueError(
                f"hf:{folder} has no column {caption!r}; it has: {', '.join(features)}."
            )
        found = (name for name in (*COLUMNS, "label") if name in features)
        self.caption = caption or next(found, None)
        self._names = getattr(features.get(self.caption), "names", None)
        if not caption and self.caption == "label" and not self._names:
            self.caption = None  # a number says nothing

    def __reduce__(self):
        # Each process opens the files for itself.
        return type(self), self._arguments

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def captioned(self) -> bool:
        return self.caption is not None

    def picture(self, index: int) -> Picture:
        name = f"picture {index} of hf:{self.folder}"
        caption = ""
        if self.caption:
            with reading(name):  # Arrow raises errors of its own
                row = self._rows.select_columns([self.caption])[index]
            value = caption_of(row, self.caption, name)
            if self._names and row[self.caption] is not None:
                value = self._names[row[self.caption]].replace("_", " ")
            caption = str(value).strip()
        return Picture(decode(self._read(index), name), caption)

    def sizes(self) -> Int[np.ndarray, "n 2"]:
        own = self.digest()
        return read_sizes([own] * len(self), self._read, key=f"hf {own}")

    def digest(self) -> str:
        parts = [
            path.read_bytes()
            if path.suffix == ".json"
            else f"{path.relative_to(self.folder)} {path.stat().st_size}\n"
            for path in self._files()
        ]
        chosen = (self._arguments[1], self.image, self.caption, len(self))
        return digest(repr(chosen), *parts)

    def contents(self) -> str:
        return digest_contents(self._files())

    def _files(self) -> list[pathlib.Path]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        # Without datasets' own results.
        return [path for path in files if not path.name.startswith("cache-")]

    def _read(self, index: int) -> bytes:
        """The picture's file."""
        name = f"picture {index} of hf:{self.folder}"
        with reading(name):  # Arrow raises errors of its own
            value = self._pictures[index][self.image]
            if not value or (value["bytes"] is None and value["path"] is None):
                raise ValueError("its row holds none")
            if value["bytes"] is not None:
                return value["bytes"]
            return read_file(pathlib.Path(value["path"]))

    @functools.cached_property
    def _pictures(self) -> Any:
        import datasets

        rows = self._rows.select_columns([self.image])
        return rows.cast_column(self.image, datasets.Image(decode=False))

    @functools.cached_property
    def _rows(self) -> Any:
        import datasets

        folder, split, *_ = self._arguments
        try:
            saved = datasets.load_from_disk(str(self.folder))
        except Exception as error:  # FileNotFoundError, Arrow's and JSON's errors
            raise ValueError(f"hf:{folder} cannot be read: {error}.")
        if isinstance(saved, datasets.DatasetDict):
            if split not in saved:
                raise ValueError(
                    f"hf:{folder} has no split {split!r}; it has: {', '.join(saved)}."
                )
            saved = saved[split]
        if not len(saved):
            raise ValueError(f"hf:{folder} holds no picture.")
        try:
            # Arrow crashes at damaged offsets, which it checks only when asked.
            saved.data.validate(full=True)
        except Exception as error:
            raise ValueError(f"hf:{folder} is damaged: {error}.")
        return saved.with_format(None)


def open_saved(
    folder: str,
    split: str = "train",
    image: str | None = None,
    caption: str | None = None,
) -> Saved:
    """The split of a data set that `save_to_disk` wrote; one without splits whole.

    `image` and `caption` name columns, by default the first with pictures, and "text",
    "caption" or a class label. Raises FileNotFoundError for a missing folder, and
    ValueError for one that is no such data set, for a column or split that it does not
    have, and where the extra that reads it is not installed.
    """
    if not expand(folder).is_dir():
        raise FileNotFoundError(
            f"There is no folder {folder}; hf: reads data sets that save_to_disk wrote."
        )
    try:
        import datasets  # noqa: F401
    except ImportError as error:
        raise ValueError(f"hf:{folder} needs pip install 'personax[hf]': {error}.")
    return Saved(folder, split, image, caption)


def _image_column(folder: str, features: Any, name: str | None) -> str:
    import datasets

    images = [key for key, kind in features.items() if isinstance(kind, datasets.Image)]
    if name is None and images:
        return images[0]
    if name in images:
        assert name is not None
        return name
    wanted = f"pictures in the column {name!r}" if name else "a column of pictures"
    raise ValueError(
        f"hf:{folder} does not have {wanted}; of pictures it has: "
        f"{', '.join(images) or 'none'}, of columns: {', '.join(features)}."
    )

"""Large sets by name, as in a config's `stream.source`."""

from collections.abc import Sequence

from personax.data.files import open_files
from personax.data.picture import PictureSet
from personax.data.rendered import open_portraits, open_scenes
from personax.data.tars import open_tars

SOURCES = (
    "portraits:people",
    "portraits:animals",
    "scenes",
    "folder:DIR or ZIP",
    "wds:DIR, TAR or PATTERN",
    "hf:DIR",
    "tfds:NAME",
    "cache:DIR",
)


def open_set(
    source: str,
    *,
    data_dir: str = "",
    split: str = "train",
    caption_column: str | None = None,
    image_column: str | None = None,
) -> PictureSet:
    """The picture set of a source.

    "portraits:people", "portraits:animals" and "scenes" are rendered, with options:
    "portraits:people:5000:seed=1:styles=noto+twemoji" sets their number and styles
    ("all"); "scenes:held_out" includes the bundled subjects. "folder:DIR" is every
    picture below a folder, or in a zip; "wds:PATTERN" the samples of WebDataset's tars;
    "hf:DIR" the `split` of a Hugging Face data set on disk; "tfds:NAME" that of a
    prepared TensorFlow Datasets data set below `data_dir`. The columns are those of
    metadata, of JSON in tars, and of Hugging Face data sets. Raises ValueError or
    FileNotFoundError for a source that does not exist or is not of this form.
    """
    kind, _, rest = source.partition(":")
    match kind:
        case "portraits":
            which, _, options = rest.partition(":")
            return open_portraits(which, _options(source, options))
        case "scenes":
            return open_scenes(_options(source, rest))
        case "folder" if rest:
            return open_files(rest, column=caption_column)
        case "wds" if rest:
            return open_tars(rest, column=caption_column)
        case "hf" if rest:
            # Imported here: only this source needs Hugging Face's datasets.
            from personax.data.hugging_face import open_saved

            return open_saved(rest, split, image_column, caption_column)
        case "tfds" if rest:
            # Imported here: only this source needs TensorFlow Datasets.
            from personax.data.tfds.source import open_tfds

            return open_tfds(rest, data_dir=data_dir, split=split)
        case "cache":
            raise ValueError(f"{source} holds latents; expected pictures.")
    raise ValueError(
        f"Unknown picture set {source!r}; expected one of {', '.join(SOURCES)}."
    )


_OPTIONS: Sequence[str] = ("count", "seed", "styles")


def _options(source: str, text: str) -> dict[str, str]:
    """The options of a rendered set: 5000:seed=1:styles=all:held_out."""
    options = {}
    for part in text.split(":") if text else ():
        key, equals, value = part.partition("=")
        if part.isdigit():
            key, value = "count", part
        elif key == "held_out" and not equals:
            value = "yes"
        elif key not in _OPTIONS or not value:
            raise ValueError(
                f"Unknown option {part!r} in {source!r}; expected a number of "
                "pictures, seed=N, styles=A+B or held_out, each after a colon."
            )
        if key in ("count", "seed") and not value.isdigit():
            raise ValueError(f"{part!r} in {source!r} is not a number.")
        options[key] = value
    if options.get("count") == "0":
        raise ValueError(f"{source!r} holds no picture.")
    return options

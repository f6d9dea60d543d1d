"""Large sets by name: what a config's `stream.source` may say."""

from collections.abc import Sequence

from personax.data.files import open_files
from personax.data.picture import PictureSet
from personax.data.rendered import open_portraits, open_scenes

SOURCES = (
    "portraits:people",
    "portraits:animals",
    "scenes",
    "folder:DIR or ZIP",
    "tfds:NAME",
    "cache:DIR",
)


def open_set(source: str, *, data_dir: str = "", split: str = "train") -> PictureSet:
    """The pictures that a source stands for.

    "portraits:people", "portraits:animals" and "scenes" are rendered; "portraits:people
    :5000:seed=1:styles=noto+twemoji" says how many, and in which styles ("all");
    "scenes:held_out" has the bundled subjects, too. "folder:DIR" is every picture below
    a folder, or in a zip; "tfds:NAME" the `split` of a prepared TensorFlow Datasets
    data set below `data_dir`. Raises ValueError or FileNotFoundError in one sentence.
    """
    kind, _, rest = source.partition(":")
    match kind:
        case "portraits":
            which, _, options = rest.partition(":")
            return open_portraits(which, _options(source, options))
        case "scenes":
            return open_scenes(_options(source, rest))
        case "folder" if rest:
            return open_files(rest)
        case "tfds" if rest:
            # Here, as it imports a library that only this source needs.
            from personax.data.tfds.source import open_tfds

            return open_tfds(rest, data_dir=data_dir, split=split)
        case "cache":
            raise ValueError(f"{source} holds latents, and here pictures are needed.")
    raise ValueError(
        f"There is no set {source!r} of pictures; there are {', '.join(SOURCES)}."
    )


_WORDS: Sequence[str] = ("count", "seed", "styles")


def _options(source: str, text: str) -> dict[str, str]:
    """The options of a rendered set: 5000:seed=1:styles=all:held_out."""
    found = {}
    for part in text.split(":") if text else ():
        key, equals, value = part.partition("=")
        if part.isdigit():
            key, value = "count", part
        elif key == "held_out" and not equals:
            value = "yes"
        elif key not in _WORDS or not value:
            raise ValueError(
                f"{source!r} says {part!r}; after the set may stand a number of "
                "pictures, seed=N, styles=A+B or held_out, each after a colon."
            )
        if key in ("count", "seed") and not value.isdigit():
            raise ValueError(f"{source!r} says {part!r}, which is no number.")
        found[key] = value
    if found.get("count") == "0":
        raise ValueError(f"{source!r} holds no picture.")
    return found

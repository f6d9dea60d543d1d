"""Digests of the files that an evaluation reads: a result is of their contents."""

import importlib.util
import pathlib
from collections.abc import Iterable, Iterator, Sequence

from ml_collections import ConfigDict

from personax.concepts.source import parse_source
from personax.core.files import digest, digest_contents, digest_tree, expand
from personax.data.captioned import read_captioned
from personax.data.subjects import Subject
from personax.evaluation.config import EvalConfig
from personax.loading import EMBEDDED

# Keys of a row's training config that name files, beside those that are the subject's.
_KEYS = ("concept.masks", "corpus", "concepts_list", "stream.source")

_BUNDLED = (EMBEDDED, "scenes")  # sources that are no paths


def digests(paths: Iterable[str], sets: Sequence[str] = ()) -> dict[str, str]:
    """{path: the digest of the file's or the folder's content}, where it exists.

    `sets` are paths of captioned pictures; of a list its pictures count as well. A
    bundled subject or network has no path, and a Hub's id names its content.
    """
    found = {path: expand(path) for path in (*paths, *sets) if path}
    digests = {x: digest_tree(file) for x, file in found.items() if file.exists()}
    for path in dict.fromkeys(sets):
        if path and found[path].is_file():
            listed = read_captioned(path, caption="")
            pictures = digest_contents(each.path for each in listed)
            digests[path] = digest(digests[path], pictures)
    return digests


def of_subject(subject: Subject) -> list[str]:
    """The pictures of a subject, and those of its regularisation set."""
    return [subject.images, subject.prior_images or ""]


def of_row(config: ConfigDict) -> list[str]:
    """What a training config names beside the pictures of its subject."""
    values = [str(_at(config, key)) for key in _KEYS]
    # A set's source is "folder:DIR"; a path has no colon in front.
    named = [value.partition(":")[2] or value for value in values]
    return named + [str(parse_source(each).path) for each in config.before]


def of_metrics(config: EvalConfig, class_word: str) -> list[str]:
    """The networks and files of the metrics of a subject of this class."""
    real = str(pathlib.Path(config.real, class_word)) if config.real else ""
    named = [each for each in config.metrics.values() if each not in _BUNDLED]
    return [*named, real, *_module(config.vqa)]


def sets(config: EvalConfig, subjects: Iterable[Subject]) -> list[str]:
    """Those of these paths that may be lists of captioned pictures."""
    priors = [subject.prior_images or "" for subject in subjects]
    named = [*priors, config.metrics.get("captions", "")]
    return [each for each in named if each not in _BUNDLED]


def _module(name: str | None) -> Iterator[str]:
    """The file of "package.module:function"."""
    module = (name or "").partition(":")[0]
    try:
        spec = importlib.util.find_spec(module) if module else None
    except (ImportError, ValueError):
        return  # opening the metric says so
    if spec is not None and spec.origin:
        yield spec.origin


def _at(config: ConfigDict, key: str) -> str:
    value = config
    for part in key.split("."):
        value = value[part]
    return value or ""

"""Published sets of subjects and pairs by name, as in an evaluation's config."""

import functools
import pathlib
from collections.abc import Sequence

from personax.core.files import expand
from personax.core.tree import nearest
from personax.data import emoji
from personax.data.custom_concept_101 import (
    open_custom_concept_101,
    read_custom_concept_101_pairs,
)
from personax.data.custom_diffusion_sets import (
    open_custom_diffusion,
    read_custom_diffusion_pairs,
)
from personax.data.dreambooth_set import open_dreambooth
from personax.data.subjects import Pair, Readers, Subject, open_folders

__all__ = ["Pair", "Subject", "read_pairs", "read_subjects"]


def read_subjects(source: str, names: Sequence[str] = ()) -> dict[str, Subject]:
    """{name: subject} of a set, in the order of `names`; all of it, in its own, for ().

    `source` is "emoji" (the 12 bundled subjects), "dreambooth:DIR" (dataset/ of
    google/dreambooth), "custom_concept_101:DIR" (customconcept101/ of
    adobe-research/custom-diffusion), "custom_diffusion:DIR" (that repository itself,
    with the ten sets) or "folders:DIR", a folder of pictures for each subject; see
    their modules. No picture is opened, and subjects that are not in `names` need no
    folder. Raises FileNotFoundError for missing files, ValueError for unknown names and
    files of another form.
    """
    readers = _open(source)
    for name in names:
        _expect(name, readers, source)
    return {name: readers[name]() for name in names or readers}


def read_pairs(source: str, pairs: Sequence[Sequence[str]] = ()) -> tuple[Pair, ...]:
    """Pairs of a set's subjects; for () the published ones, if any.

    A published pair, in its order, has the set's prompts, any other has none. Raises
    what `read_subjects` raises, and ValueError for a pair of other than two subjects.
    """
    kind, folder = _parsed(source)
    published = _PAIRS[kind](folder) if kind in _PAIRS else ()
    own = {pair.names: pair for pair in published}
    if not pairs:
        return tuple(own.values())
    readers, result = _open(source), []
    for names in pairs:
        names = tuple(names)
        if len(set(names)) != 2 or len(names) != 2:
            raise ValueError(f"{names!r} is not a pair of two different subjects.")
        for name in names:
            _expect(name, readers, source)
        result.append(own.get(names, Pair(names)))
    return tuple(result)


_SETS = {
    "dreambooth": open_dreambooth,
    "custom_concept_101": open_custom_concept_101,
    "custom_diffusion": open_custom_diffusion,
    "folders": open_folders,
}
_PAIRS = {
    "custom_concept_101": read_custom_concept_101_pairs,
    "custom_diffusion": read_custom_diffusion_pairs,
}


def _open(source: str) -> Readers:
    kind, folder = _parsed(source)
    if kind == "emoji":
        return {name: functools.partial(_bundled, name) for name in emoji.subjects()}
    return _SETS[kind](folder)


def _parsed(source: str) -> tuple[str, pathlib.Path]:
    kind, _, rest = source.partition(":")
    folder = expand(rest)
    if (kind not in _SETS or not rest) and source != "emoji":
        sources = ", ".join(f"{name}:DIR" for name in _SETS)
        raise ValueError(f"Unknown set {source!r}; expected emoji, {sources}.")
    if rest and not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}, as in {source!r}.")
    return kind, folder


def _bundled(name: str) -> Subject:
    own = emoji.subject(name)
    return Subject(name, name, own.class_word, own.kind)


def _expect(name: str, readers: Readers, source: str) -> None:
    if name in readers:
        return
    if len(readers) <= 40:
        raise ValueError(f"{source} has no {name!r}; it has: {', '.join(readers)}.")
    raise ValueError(
        f"{source} has no {name!r} among its {len(readers)} subjects; nearest: "
        f"{nearest(name, readers)}."
    )

"""Ways to have several concepts in one model, each giving `with_concepts`'s sources."""

import json
import pathlib
from collections.abc import Sequence

from ml_collections import ConfigDict

from benchmarks.lesson import lesson
from benchmarks.portrait_runs import trained
from personax.concepts.merge import merge, read_captions
from personax.data import emoji
from personax.loading import Base


def joint(
    method: str, subjects: Sequence[str], folder: pathlib.Path, *, steps: int
) -> list[str]:
    """All in one training, of `steps` for each of them; its entries lie in `folder`."""
    # What the list's entries say comes before the subject's own.
    config = lesson(method, subjects[0])
    config.steps = steps * len(subjects)
    known = emoji.subjects()
    entries = [
        {
            "images": subject,
            "placeholder": f"<v{i}>",
            "class_word": known[subject].class_word,
        }
        for i, subject in enumerate(subjects, start=1)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    listed = folder / "concepts.json"
    listed.write_text(json.dumps(entries))
    config.concepts_list = str(listed)
    return [_trained(config, folder / "run")]


def sequential(
    subjects: Sequence[str], first: str, folder: pathlib.Path, *, steps: int
) -> list[str]:
    """One after the other by Custom Diffusion, each the next one's base.

    The first is the one that was taught alone, in the folder `first`, and is `<v1>`.
    """
    found = first
    for i, subject in enumerate(subjects[1:], start=2):
        config = lesson("custom_diffusion", subject)
        config.steps = steps
        config.concept.placeholder, config.before = f"<v{i}>", (found,)
        config.concept.initial = config.concept.initial.split("+")[i - 1]
        found = _trained(config, folder / f"run{i}")
    return [found]


def merged(base: Base, apart: Sequence[str], folder: pathlib.Path) -> list[str]:
    """Those taught apart by Custom Diffusion, in closed form; `<v1>`, `<v2>`, …."""
    out = folder / "concept"
    if not (out / "concept.json").is_file():
        folders = [pathlib.Path(each) for each in apart]
        merge(base, folders, out, read_captions(base, None))
    return [str(out)]


def renamed(apart: Sequence[str]) -> list[str]:
    """Those taught apart, side by side, each with a name of its own."""
    return [f"<v{i}>={path}" for i, path in enumerate(apart, start=1)]


def _trained(config: ConfigDict, folder: pathlib.Path) -> str:
    trained(config, folder)
    return str(folder / "concept")

"""Concepts trained for the claims, at one or several steps of a trajectory."""

import importlib
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from benchmarks.portrait_runs import train_to_end
from personax.core.files import atomic_folder
from personax.data import emoji
from personax.evaluation.protocol import digest


def method_config(
    method: str, subject: str, steps: int = 0, changes: Mapping = {}, **arguments: Any
) -> ConfigDict:
    """configs/emoji_METHOD.py for a bundled subject, without previews or validation.

    With that many steps (0: its own), with changes, and arguments of the method.
    """
    config = importlib.import_module(f"configs.emoji_{method}").get_config()
    config.concept.images = subject
    config.concept.class_word = emoji.subject(subject).class_word
    config.preview.prompts, config.validation.every = (), 0
    config.update(changes)
    config.method_args.update(arguments)
    config.steps = steps or config.steps
    return config


def train_concept(config: ConfigDict, out: pathlib.Path) -> pathlib.Path:
    """The concept's folder after the config's steps, trained where it is missing."""
    return training_trajectory(config, [config.steps], out)[config.steps]


def training_trajectory(
    config: ConfigDict, stops: Sequence[int], out: pathlib.Path
) -> dict[int, pathlib.Path]:
    """{step: the concept's folder} of one training, trained where they are missing.

    Every stop is a work directory of `personax.train` and starts from the checkpoint of
    the one before. Raises ValueError for a learning rate that depends on the number of
    steps, and what `personax.training.train.train` raises.
    """
    if len(stops) > 1 and config.optimizer.schedule != "constant":
        raise ValueError(
            "A trajectory needs a constant learning rate, not optimizer.schedule="
            f"{config.optimizer.schedule!r}."
        )
    folder = out / digest(config.to_dict() | {"steps": 0})
    concepts, previous = {}, None
    for stop in sorted(stops):
        place = folder / f"step_{stop}"
        concepts[stop] = place / "concept"
        if not (concepts[stop] / "concept.json").is_file():
            if previous is not None and not place.exists():
                with atomic_folder(place) as copy:
                    state = "checkpoints"
                    shutil.copytree(previous / state, copy / state)
            own = config.copy_and_resolve_references()
            own.steps = stop
            train_to_end(own, place)
        previous = place
    return concepts

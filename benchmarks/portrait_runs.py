"""Trainings of the rows of `benchmarks.concept_centric`."""

import importlib
import pathlib

from ml_collections import ConfigDict
from safetensors.numpy import load_file

from benchmarks.attributes import NOUNS
from personax.concepts.bind import Model, from_base, with_concepts
from personax.core.errors import RunFailedError
from personax.loading import Base
from personax.training.train import train

# Settings that a row shares with the null-text model of its set.
_SHARED = (
    *("stream", "data", "seed", "batch", "accumulate", "steps", "ema_decay"),
    *("dtype", "size", "log_every", "save_every"),
)


def model(
    base: Base, name: str | None, which: str, out: pathlib.Path, steps: int
) -> Model:
    """The base with the concept that configs/NAME.py trains on a set of portraits.

    It is trained if missing; an interrupted training resumes. Without a name the result
    is the base itself; "{}" in the name is the set.
    """
    if name is None:
        return from_base(base)
    folder = _folder(out, name, which)
    if not (folder / "concept").is_dir():
        train_to_end(recipe(name, which, steps), folder)
    return with_concepts(from_base(base), base, [str(folder / "concept")])


def train_to_end(config: ConfigDict, folder: pathlib.Path) -> None:
    """Train all steps; a training that is stopped by a signal raises RunFailedError."""
    if not train(config, folder):
        raise RunFailedError(f"{folder} is not finished; rerun the command to resume.")


def num_params(out: pathlib.Path, name: str | None, which: str) -> int:
    """The number of trained parameters of a row."""
    if name is None:
        return 0
    path = _folder(out, name, which) / "concept" / "theta.safetensors"
    return sum(leaf.size for leaf in load_file(path).values())


def recipe(name: str, which: str, steps: int = 0) -> ConfigDict:
    """The config of a row, with as many pictures of the set as the null-text model.

    The prompt of the set is "a photo of a <v1> face", without the placeholder for
    methods that train no word (Cao et al. 2023, D.2).
    """
    own = importlib.import_module(f"configs.{name.format(which)}").get_config()
    shared = importlib.import_module(f"configs.emoji_{which}").get_config()
    if "{}" not in name:
        for key in _SHARED:
            own[key] = shared[key]
        own.stream.captions = "prompt"
        own.prior.source = ""
        own.concept.images, own.concept.class_word = "", NOUNS[which]
        own.method_args.min_snr = shared.method_args.min_snr
        if name == "emoji_dreambooth":
            own.optimizer = shared.optimizer  # the whole UNet, as there
        else:
            own.optimizer.schedule = shared.optimizer.schedule
        if name == "emoji_custom_diffusion":
            own.method_args.train = "cross_attention"  # the paper's 44 M
        if name in ("emoji_dreambooth", "emoji_oft"):
            own.concept.placeholder = ""
    return shortened(own, steps)


def shortened(config: ConfigDict, steps: int) -> ConfigDict:
    """The config for that many steps (0: its own), without previews or validation."""
    if steps:
        config.steps = steps
        config.save_every = min(config.save_every, steps)
        config.optimizer.warmup = min(config.optimizer.warmup, steps // 2)
    config.preview.prompts, config.validation.every = (), 0
    return config


def _folder(out: pathlib.Path, name: str, which: str) -> pathlib.Path:
    return out / which / "trained" / name.format(which)

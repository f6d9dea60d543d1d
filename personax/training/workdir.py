"""The record of a work directory: which run it holds, and whether it may resume."""

import json
import pathlib
import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

import jax
import yaml
from flax import traverse_util

import personax
from personax.core.config import plain
from personax.core.files import read_json, write_json, write_text
from personax.training.config import TrainConfig
from personax.training.digests import WORDS

# Keys that may change when a run resumes: they do not affect what is trained, a mesh by
# rounding alone.
_FREE = ("log_every", "save_every", "keep", "preview", "validation", "mesh")
# What a run writes beside run.json.
_RESULTS = (
    "checkpoints",
    "concept",
    "config.yaml",
    "grid.png",
    "metrics.jsonl",
    "samples",
)
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def claim(workdir: pathlib.Path, config: TrainConfig, data: Mapping[str, str]) -> None:
    """Write config.yaml and run.json, after `check`."""
    check(workdir, config, data)
    values = record(config)
    run = {
        "personax": personax.__version__,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "data": dict(data),
        "config": values,
    }
    # First: without it the other files are those of an unknown run.
    write_json(workdir / "run.json", run)
    write_text(workdir / "config.yaml", yaml.safe_dump(values, sort_keys=False))


def check(workdir: pathlib.Path, config: TrainConfig, data: Mapping[str, str]) -> None:
    """Raise ValueError for a directory that may not hold this run.

    `data` are digests of the run's other inputs: base, pictures, words. That is where
    it holds another run, whose differences are shown, apart from `steps`, which may
    grow if the learning rate is constant; and where it holds results of a run without
    a readable record of it.
    """
    path = workdir / "run.json"
    found = [name for name in _RESULTS if _is_there(workdir / name)]
    if path.is_file():
        # A run without results has nothing to lose: its config may still be corrected.
        if found and found != ["config.yaml"]:
            _compare(workdir, record(config), data)
    elif found:
        raise ValueError(
            f"{workdir} holds {', '.join(found)} but no run.json, which says of what "
            "run they are; restore it, or choose another --workdir."
        )


def _is_there(path: pathlib.Path) -> bool:
    """Whether a file exists, or a folder that is not empty."""
    return any(path.iterdir()) if path.is_dir() else path.exists()


def is_finished(workdir: pathlib.Path, steps: int) -> bool:
    """Whether the directory holds the concept of a run of that many steps.

    A concept.json that cannot be read counts as none: it is written again.
    """
    try:
        about = read_json(workdir / "concept" / "concept.json")
    except (ValueError, FileNotFoundError):
        return False
    whole = (workdir / "concept" / "theta.safetensors").is_file()
    return isinstance(about, dict) and about.get("step") == steps and whole


def record(config: TrainConfig) -> dict[str, Any]:
    """The config as JSON and YAML files hold it, with sorted keys."""
    return json.loads(json.dumps(plain(config), sort_keys=True))


def _compare(
    workdir: pathlib.Path, values: Mapping[str, Any], data: Mapping[str, str]
) -> None:
    """Raise ValueError for a recorded config or data that differ."""
    path = workdir / "run.json"
    try:
        run = read_json(path)
        before = _leaves(dict(run["config"]), dict(run["data"]))
        if not isinstance(before.get("steps", 0), int):
            raise TypeError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(
            f"{path} is damaged, and says no more of what run {workdir} is; restore "
            "it, or choose another --workdir."
        )
    after = _leaves(values, data)
    # A version without a digest of what was read accepted any.
    absent = {key for key in _leaves({}, data) if key not in before}
    if WORDS not in run["data"]:
        after = {key: value for key, value in after.items() if key not in absent}
    if not after["concept.class_word"]:
        # Left out: a subject, a list or folders give it. Once the default was "dog".
        before.pop("concept.class_word", None)
        after.pop("concept.class_word")
    # A version without a key trained with its default.
    default = _leaves(record(TrainConfig()), {})
    constant = after["optimizer.schedule"] == "constant"
    prolonged = constant and after["steps"] >= before.get("steps", 0)
    free = (*_FREE, "steps") if prolonged else _FREE
    changed = [
        f"{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key, default.get(key)) != after.get(key, default.get(key))
        and key.split(".")[0] not in free
    ]
    if changed:
        raise ValueError(
            f"{workdir} holds another run: {'; '.join(changed)}. Choose another "
            "--workdir, or restore that config."
        )


def _leaves(values: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """{dotted key: value} of a config, and of the digests of its data."""
    digests = {f"data.{name}": digest for name, digest in data.items()}
    return traverse_util.flatten_dict(values, sep=".") | digests

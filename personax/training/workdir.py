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
from personax.core.files import write_json, write_text
from personax.training.config import TrainConfig

# Keys that may change when a run resumes: they do not affect what is trained, a mesh by
# rounding alone.
_FREE = ("log_every", "save_every", "keep", "preview", "validation", "mesh")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def claim(workdir: pathlib.Path, config: TrainConfig, data: Mapping[str, str]) -> None:
    """Write config.yaml and run.json, or compare them with those of an existing run.

    `data` are digests of the run's other inputs: base, pictures. `steps` may grow if
    the learning rate is constant. Raises ValueError, with the differences, for a
    directory that holds another run.
    """
    values = record(config)
    path = workdir / "run.json"
    # A run without logs has nothing to lose: its config may still be corrected.
    if path.is_file() and (workdir / "metrics.jsonl").is_file():
        _compare(workdir, values, data)
    run = {
        "personax": personax.__version__,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "data": dict(data),
        "config": values,
    }
    write_text(workdir / "config.yaml", yaml.safe_dump(values, sort_keys=False))
    write_json(path, run)


def is_finished(workdir: pathlib.Path, steps: int) -> bool:
    """Whether the directory holds the concept of a run of that many steps."""
    path = workdir / "concept" / "concept.json"
    return path.is_file() and json.loads(path.read_text())["step"] == steps


def record(config: TrainConfig) -> dict[str, Any]:
    """The config as JSON and YAML files hold it, with sorted keys."""
    return json.loads(json.dumps(plain(config), sort_keys=True))


def _compare(
    workdir: pathlib.Path, values: Mapping[str, Any], data: Mapping[str, str]
) -> None:
    """Raise ValueError for a recorded config or data that differ."""
    path = workdir / "run.json"
    try:
        run = json.loads(path.read_text())
        before = _leaves(run["config"], run["data"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{path} is damaged; choose another --workdir.")
    after = _leaves(values, data)
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

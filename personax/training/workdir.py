"""A work directory's own record: what run it holds, and whether that is asked again."""

import hashlib
import json
import os
import pathlib
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import jax
import yaml

import personax
from personax.core.images import Mask, Pixels

# What may differ between two starts of one run: it changes no number that is trained,
# a mesh none but by rounding.
_FREE = ("log_every", "save_every", "keep", "preview", "validation", "mesh")
_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def claim(
    workdir: pathlib.Path, config: Mapping[str, Any], data: Mapping[str, str]
) -> None:
    """Writes config.yaml and run.json, or checks them where a run has begun.

    `data` are the digests of what the run sees beside its config: base, pictures. A run
    may be prolonged where its learning rate does not depend on its length. Raises
    ValueError, showing the differences, where the directory holds another run.
    """
    config = plain(config)
    path = workdir / "run.json"
    # Before the first log there is nothing to lose: a refused start may be corrected.
    if path.is_file() and (workdir / "metrics.jsonl").is_file():
        _compare(workdir, _read(path), config, data)
    workdir.mkdir(parents=True, exist_ok=True)
    record = {
        "personax": personax.__version__,
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in _PACKAGES},
        "devices": f"{jax.device_count()} {jax.devices()[0].device_kind}",
        "data": dict(data),
        "config": config,
    }
    write(workdir / "config.yaml", yaml.safe_dump(config, sort_keys=False))
    write(path, json.dumps(record, indent=2) + "\n")


def write(path: pathlib.Path, text: str) -> None:
    """The file in one piece: a kill leaves the old one or this one."""
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text)
    os.replace(unfinished, path)


def plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config as YAML and JSON have it: tuples are lists."""
    return json.loads(json.dumps(dict(config)))


def digest(pictures: Sequence[Pixels | Mask]) -> str:
    """What changes when any picture does."""
    found = hashlib.sha256()
    for pixels in pictures:
        found.update(str(pixels.shape).encode())
        found.update(pixels.tobytes())
    return found.hexdigest()[:16]


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        return {"config": dict(found["config"]), "data": dict(found["data"])}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged; choose another --workdir.")


def _compare(workdir, found, config, data) -> None:
    before, after = _leaves(found["config"]), _leaves(config)
    before |= _leaves({"data": found["data"]})
    after |= _leaves({"data": dict(data)})
    changed = [
        f"{key} was {before.get(key)!r} and is {after.get(key)!r}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
        and key.split(".")[0] not in _FREE
        and not _prolonged(key, before, after)
    ]
    if changed:
        raise ValueError(
            f"{workdir} holds another run: {'; '.join(changed)}. Choose another "
            "--workdir, or go back to that config."
        )


def _prolonged(key: str, before: Mapping, after: Mapping) -> bool:
    constant = after.get("optimizer.schedule") == "constant"
    return key == "steps" and constant and after[key] >= before[key]


def _leaves(tree: Any, prefix: str = "") -> dict[str, Any]:
    """{dotted key: value}."""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        name: value
        for key, inner in tree.items()
        for name, value in _leaves(inner, f"{prefix}.{key}" if prefix else key).items()
    }

"""A trained concept on disk: theta.safetensors and concept.json, nothing pickled."""

import hashlib
import json
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import load_file

import personax
from personax import methods
from personax.concepts.low_rank import expand
from personax.concepts.quantize import restore
from personax.core.tensor_file import write_tensors
from personax.core.tree import flat
from personax.core.typing import Params, Theta
from personax.methods import Concept, Method

FORMAT = "personax.concept/1"


class Artifact(NamedTuple):
    """What a concept's folder holds."""

    method: Method
    theta: Theta
    prepared: Mapping[str, Any]  # what its parts saved beside theta, {name: arrays}
    concepts: tuple[Concept, ...]
    about: Mapping[str, Any]  # concept.json


def save(
    folder: pathlib.Path,
    theta: Theta,
    concepts: Sequence[Concept],
    *,
    method: str,
    method_args: Mapping[str, Any],
    base: str,
    fingerprint: str,
    before: Sequence[pathlib.Path] = (),
    prepared: Mapping[str, Any] = {},
    **about: Any,
) -> None:
    """Write the folder in one piece; `about` (step, prompts, config, …) must be JSON.

    `before` are the concepts that it was trained on top of: they go along, as copies.
    `prepared` is what `methods.saved` gives; it lies in prepared.safetensors.
    A concept that is there is replaced; ValueError where something else is.
    """
    check_replaceable(folder)
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    write_tensors(unfinished / "theta.safetensors", _named(theta))
    if prepared:
        write_tensors(unfinished / "prepared.safetensors", _named(prepared))
    for i, earlier in enumerate(before):
        shutil.copytree(earlier, unfinished / "before" / str(i))
    record = {
        "format": FORMAT,
        "personax": personax.__version__,
        "method": method,
        "method_args": dict(method_args),
        "base": base,
        "fingerprint": fingerprint,
        "concepts": [concept._asdict() for concept in concepts],
        **about,
    }
    (unfinished / "concept.json").write_text(json.dumps(record, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)


def check_replaceable(folder: pathlib.Path) -> None:
    """ValueError where something is that is no concept, and so not to be lost."""
    if folder.exists() and not (folder / "concept.json").is_file():
        raise ValueError(f"{folder} exists and is no concept; choose another folder.")


def load(folder: pathlib.Path, params: Params, fingerprint: str) -> Artifact:
    """The concept in `folder`, checked against the base that it is to be bound to.

    Raises FileNotFoundError and ValueError, in one sentence, for a folder that is none,
    a foreign or truncated file, another base, or leaves that the method does not have.
    """
    about = _read_json(folder)
    if about["fingerprint"] != fingerprint:
        raise ValueError(
            f"{folder} was trained on the base {about['base']!r}, and the base given "
            f"has other weights; pass that base with --base."
        )
    concepts = tuple(_concept(values) for values in about["concepts"])
    method = methods.make(about["method"], **about["method_args"])
    expected = jax.eval_shape(
        lambda: methods.init(method, jax.random.key(0), params, concepts)
    )
    # What personax.compress wrote stands for whole kernels, in full precision.
    leaves = expand(restore(_read_leaves(folder / "theta.safetensors")), params)
    theta = _fill(folder, expected, leaves)
    return Artifact(method, theta, _prepared(folder, method), concepts, about)


def origin(folder: pathlib.Path) -> tuple[str, str]:
    """(the base that a concept was trained on, as it was asked for, its fingerprint).

    Raises FileNotFoundError or ValueError for a folder that holds no concept.
    """
    about = _read_json(folder)
    return about["base"], about["fingerprint"]


def digest(folder: pathlib.Path) -> str:
    """What changes when what was trained does."""
    leaves = folder / "theta.safetensors"
    return hashlib.sha256(leaves.read_bytes()).hexdigest()[:16]


def earlier(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders of the concepts that this one was trained on top of, in order."""
    inside = folder / "before"
    found = inside.iterdir() if inside.is_dir() else ()
    return sorted(found, key=lambda path: int(path.name))


def _named(parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{part/path: leaf} of {part: its tree}."""
    return {
        f"{part}/{path}": np.asarray(leaf)
        for part, tree in parts.items()
        for path, leaf in flat(tree).items()
    }


def _prepared(folder: pathlib.Path, method: Method) -> dict[str, Any]:
    """What the method's parts saved beside theta, {name: {path: array}}."""
    names = [part.saves for part in method.parts.values() if part.saves]
    if not names:
        return {}
    found: dict[str, Any] = {name: {} for name in names}
    path = folder / "prepared.safetensors"
    for leaf, array in _read_leaves(path).items():
        name, _, inner = leaf.partition("/")
        found.setdefault(name, {})[inner] = jnp.asarray(array)
    if found.keys() != set(names) or not all(found.values()):
        raise ValueError(f"{path} does not hold {', '.join(names)}, and nothing else.")
    return found


def _concept(values: Mapping[str, Any]) -> Concept:
    lists = {name: tuple(values[name]) for name in ("ids", "initial")}
    return Concept(**{**values, **lists})


def _read_json(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "concept.json"
    if not path.is_file():
        inside = folder / "concept"
        hint = f" Did you mean {inside}?" if (inside / "concept.json").is_file() else ""
        raise FileNotFoundError(f"{folder} holds no concept.json.{hint}")
    try:
        about = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}.")
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path} is not a {FORMAT} file.")
    return about


def _read_leaves(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside concept.json.")
    try:
        return load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}.")


def _fill(
    folder: pathlib.Path, expected: Theta, leaves: Mapping[str, np.ndarray]
) -> Theta:
    """`expected`, whose leaves are shapes, with the arrays of the file in it."""
    paths, structure = jax.tree.flatten_with_path(expected)
    want = {
        jax.tree_util.keystr(path, simple=True, separator="/"): shape.shape
        for path, shape in paths
    }
    wrong = [
        name
        for name in want.keys() | leaves.keys()
        if want.get(name) != getattr(leaves.get(name), "shape", None)
    ]
    if wrong:
        raise ValueError(
            f"{folder} does not hold what its method trains: {len(wrong)} leaves are "
            f"missing, extra or of another shape, first {min(wrong)}."
        )
    return jax.tree.unflatten(structure, [jnp.asarray(leaves[name]) for name in want])

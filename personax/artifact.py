"""A trained concept on disk: theta.safetensors and concept.json, nothing pickled."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

import personax
from personax import methods
from personax.methods import Concept, Method
from personax.tree import flat
from personax.typing import Params, Theta

FORMAT = "personax.concept/1"


class Artifact(NamedTuple):
    """What a concept's folder holds."""

    method: Method
    theta: Theta
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
    **about: Any,
) -> None:
    """Write the folder; `about` (step, prompts, config, …) must be JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    leaves = {
        f"{part}/{path}": np.asarray(leaf)
        for part, tree in theta.items()
        for path, leaf in flat(tree).items()
    }
    save_file(leaves, folder / "theta.safetensors")
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
    (folder / "concept.json").write_text(json.dumps(record, indent=2) + "\n")


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
    concepts = tuple(
        Concept(
            values["placeholder"],
            values["class_word"],
            tuple(values["ids"]),
            tuple(values["initial"]),
        )
        for values in about["concepts"]
    )
    method = methods.make(about["method"], **about["method_args"])
    theta: Theta = {}
    for name, leaf in _read_leaves(folder / "theta.safetensors").items():
        part, _, path = name.partition("/")
        theta.setdefault(part, {})[path] = leaf
    expected = jax.eval_shape(
        lambda: methods.init(method, jax.random.key(0), params, concepts)
    )
    _check(folder, expected, theta)
    return Artifact(method, theta, concepts, about)


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


def _check(folder: pathlib.Path, expected: Theta, theta: Theta) -> None:
    want = {part: flat(tree) for part, tree in expected.items()}
    wrong = [
        f"{part}/{path}"
        for part in want.keys() | theta.keys()
        for path in want.get(part, {}).keys() | theta.get(part, {}).keys()
        if getattr(want.get(part, {}).get(path), "shape", None)
        != getattr(theta.get(part, {}).get(path), "shape", None)
    ]
    if wrong:
        raise ValueError(
            f"{folder} does not hold what its method trains: {len(wrong)} leaves are "
            f"missing, extra or of another shape, first {sorted(wrong)[0]}."
        )

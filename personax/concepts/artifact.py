"""A trained concept on disk: theta.safetensors and concept.json, nothing pickled."""

import json
import math
import pathlib
import shutil
from collections.abc import Callable, Mapping, Sequence
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
from personax.concepts.source import Source, beside, parse_source
from personax.core import files
from personax.core.errors import notice, one_line
from personax.core.files import (
    atomic_folder,
    digest_contents,
    digest_file,
    read_json,
    write_json,
)
from personax.core.tensor_file import write_tensors
from personax.core.tree import flat
from personax.core.typing import Params, Theta
from personax.loading.stored import is_finite
from personax.methods import Concept, Method

FORMAT = "personax.concept/1"
# The keys of concept.json that every concept has.
_KEYS = {
    "method": str,
    "method_args": dict,
    "base": str,
    "fingerprint": str,
    "concepts": list,
}


class Artifact(NamedTuple):
    """The content of a concept's folder."""

    method: Method
    theta: Theta
    prepared: Mapping[str, Any]  # {name: arrays} that its parts save; see `Part.saves`
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
    before: Sequence[Source | str | pathlib.Path] = (),
    prepared: Mapping[str, Any] = {},
    **about: Any,
) -> None:
    """Write a concept's folder atomically, replacing a concept that exists there.

    `before` are the sources of the concepts that it was trained on top of, which are
    copied into the folder. `prepared` is the result of `methods.saved`. `about` (step,
    prompts, config, …) must be JSON. Raises ValueError if `folder` exists and is not a
    concept.
    """
    check_replaceable(folder)
    sources = [_source(each) for each in before]
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
    if any(source != Source(source.path) for source in sources):
        record["before"] = [
            {"placeholder": source.placeholder, "strength": source.strength}
            for source in sources
        ]
    with atomic_folder(folder) as temporary:
        write_tensors(temporary / "theta.safetensors", _leaves(theta))
        if prepared:
            write_tensors(temporary / "prepared.safetensors", _leaves(prepared))
        for i, source in enumerate(sources):
            _copy(source.path, temporary / "before" / str(i))
        write_json(temporary / "concept.json", record)


# What a concept's folder holds.
_FILES = {"concept.json", "theta.safetensors", "prepared.safetensors", "before"}


def check_replaceable(folder: pathlib.Path) -> None:
    """ValueError if `folder` exists and holds more than a concept.

    Hidden files, which file managers leave, do not count.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another name.")
    names = [x.name for x in folder.iterdir()] if folder.exists() else []
    others = [x for x in sorted(names) if x not in _FILES and not x.startswith(".")]
    if others and "concept.json" not in names:
        raise ValueError(f"{folder} exists and is no concept; choose another folder.")
    if others:
        raise ValueError(
            f"The concept in {folder} would be replaced, which also holds "
            f"{', '.join(others[:5])}; move that away, or choose another folder."
        )


def load(
    folder: pathlib.Path,
    params: Params,
    fingerprint: str,
    *,
    copies: Callable[[], Sequence[str]] = tuple,
    any_base: bool = False,
) -> Artifact:
    """The concept in `folder`, checked against the parameters of a base.

    The base is the concept's own if their fingerprints agree, or those of their copies
    in float16 or bfloat16, see `Base.copies`. On another base of the same shapes a
    concept that adds to the weights, or words, works and is warned about on stderr; one
    that replaces whole parameters is refused without `any_base`.

    Raises FileNotFoundError or ValueError for a folder without a concept, a foreign or
    truncated file, another base, or leaves that do not match the method's.
    """
    about = _read_json(folder)
    stored = _read_leaves(folder / "theta.safetensors")
    own = _is_own(about, fingerprint, copies)
    if not own and not any_base and _whole(stored, params):
        raise ValueError(
            f"{folder} was trained on the base {about['base']!r}, whose weights differ "
            f"from this base's, and replaces whole parameters; pass that base with "
            f"--base, or --any_base to apply it all the same."
        )
    concepts = tuple(_concept(values) for values in about["concepts"])
    try:
        method = methods.make(about["method"], **about["method_args"])
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{folder / 'concept.json'}: {one_line(error)}")
    try:
        expected = jax.eval_shape(
            lambda: methods.init(method, jax.random.key(0), params, concepts)
        )
        theta = _fill(folder, expected, expand(restore(stored), params))
    except ValueError as error:
        if own:
            raise
        raise ValueError(
            f"{folder} was trained on the base {about['base']!r}, whose architecture "
            f"differs from this base's: {error} Pass that base with --base."
        )
    if not own:
        notice(
            f"{folder} was trained on the base {about['base']!r}, whose weights differ "
            "from this base's; it is applied as it is."
        )
    return Artifact(method, theta, _read_prepared(folder, method), concepts, about)


def origin(folder: pathlib.Path) -> tuple[str, str]:
    """(the `--base` that a concept was trained on, that base's fingerprint).

    Raises FileNotFoundError or ValueError for a folder without a concept.
    """
    about = _read_json(folder)
    return about["base"], about["fingerprint"]


def digest(path: pathlib.Path) -> str:
    """The digest of a concept's theta, or of an adapter's files."""
    if path.is_dir() and (path / "concept.json").is_file():
        return digest_file(path / "theta.safetensors")
    if path.is_file():
        return " ".join(digest_file(file) for file in (path, *beside(path)))
    return " ".join(digest_file(file) for file in sorted(path.glob("*.*")))


def digest_words(path: pathlib.Path) -> str:
    """The digest of what `digest` leaves out of a concept's folder, "" for an adapter.

    Its method, words and ids, and the files beside theta, such as earlier concepts.
    """
    if not (path / "concept.json").is_file():
        return ""
    about = _read_json(path)
    record = [about.get(key) for key in ("method", "method_args", "concepts")]
    names = ("theta.safetensors", "concept.json")
    others = [
        x for x in sorted(path.rglob("*")) if x.parent != path or x.name not in names
    ]
    return files.digest(json.dumps(record), digest_contents(others))


def earlier(folder: pathlib.Path) -> list[Source]:
    """The concepts that this one was trained on top of, in order.

    Their paths are the copies inside the folder.
    """
    before = folder / "before"
    if not (folder / "concept.json").is_file() or not before.is_dir():
        return []
    copies = sorted(before.iterdir(), key=lambda path: int(path.name))
    given = _read_json(folder).get("before") or [{}] * len(copies)
    return [
        Source(_inside(copy), **values)
        for copy, values in zip(copies, given, strict=True)
    ]


def _source(given: Source | str | pathlib.Path) -> Source:
    return given if isinstance(given, Source) else parse_source(str(given))


def _copy(path: pathlib.Path, to: pathlib.Path) -> None:
    """A folder as a copy; a file, and those beside it, inside a new folder."""
    if path.is_dir():
        shutil.copytree(path, to)
    else:
        to.mkdir(parents=True)
        for file in (path, *beside(path)):
            shutil.copy(file, to)


def _inside(copy: pathlib.Path) -> pathlib.Path:
    """The file or folder that `_copy` copied."""
    files = list(copy.iterdir())
    return files[0] if len(files) == 1 and files[0].is_file() else copy


def _leaves(trees: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """{NAME/PATH: leaf} of {NAME: tree}."""
    return {
        f"{name}/{path}": np.asarray(leaf)
        for name, tree in trees.items()
        for path, leaf in flat(tree).items()
    }


def _read_prepared(folder: pathlib.Path, method: Method) -> dict[str, Any]:
    """{name: {path: array}} of what the method's parts save beside theta."""
    if not method.saves:
        return {}
    prepared: dict[str, Any] = {name: {} for name in method.saves}
    path = folder / "prepared.safetensors"
    leaves = _read_leaves(path)
    _check_finite(path, leaves)
    for leaf, array in leaves.items():
        name, _, inner = leaf.partition("/")
        prepared.setdefault(name, {})[inner] = jnp.asarray(array)
    if prepared.keys() != set(method.saves) or not all(prepared.values()):
        raise ValueError(f"{path} must hold {', '.join(method.saves)} and no more.")
    return prepared


def _is_own(
    about: Mapping[str, Any], fingerprint: str, copies: Callable[[], Sequence[str]]
) -> bool:
    """Whether one of the two bases is the other, or a copy of it in fewer bits."""
    if about["fingerprint"] == fingerprint:
        return True
    theirs = {about["fingerprint"], *about.get("copies", ())}
    return fingerprint in theirs or not theirs.isdisjoint(copies())


def _whole(stored: Mapping[str, Any], params: Params) -> bool:
    """Whether a leaf of theta replaces a whole parameter.

    What a compressed concept stores in low rank is a change, which fits any base.
    """
    parameters = flat(params)
    for name, leaf in stored.items():
        parameter = parameters.get(name.partition("/")[2])
        # OFT's rotations have the paths of their kernels, and another shape.
        if parameter is not None and parameter.shape == leaf.shape:
            return True
    return False


def _concept(values: Mapping[str, Any]) -> Concept:
    lists = {name: tuple(values[name]) for name in ("ids", "initial")}
    return Concept(**{**values, **lists})


def _read_json(folder: pathlib.Path) -> dict[str, Any]:
    path = folder / "concept.json"
    if not path.is_file():
        inside = folder / "concept"
        hint = f" Did you mean {inside}?" if (inside / "concept.json").is_file() else ""
        raise FileNotFoundError(f"{folder} holds no concept.json.{hint}")
    about = read_json(path)
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"{path} is not a {FORMAT} file.")
    for key, kind in _KEYS.items():
        if not isinstance(about.get(key), kind):
            what = "has no" if key not in about else "has another type of"
            raise ValueError(f"{path} {what} {key!r}; it is damaged, or was edited.")
    try:
        concepts = [_concept(values) for values in about["concepts"]]
        valid = all(map(_is_valid, concepts))
        for values in about.get("before", ()):
            valid &= values.keys() == {"placeholder", "strength"}
            valid &= math.isfinite(values["strength"])
            valid &= isinstance(values["placeholder"], str)
    except (KeyError, TypeError, AttributeError):
        valid = False
    if not valid:
        raise ValueError(f"{path} has concepts that are damaged, or were edited.")
    return about


def _is_valid(concept: Concept) -> bool:
    words = (concept.placeholder, concept.class_word, concept.phrase)
    ids = (*concept.ids, *(each for each in concept.initial if each is not None))
    return (
        all(isinstance(word, str) for word in words)
        and all(isinstance(each, int) and 0 <= each < 2**31 for each in ids)
        and len(concept.initial) == len(concept.ids)
    )


def _read_leaves(path: pathlib.Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing beside concept.json.")
    try:
        return load_file(path)
    # KeyError: a dtype that NumPy does not have.
    except (safetensors.SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}.")


def _fill(
    folder: pathlib.Path, expected: Theta, leaves: Mapping[str, np.ndarray]
) -> Theta:
    """`expected`, a tree of shapes, with the stored arrays as its leaves."""
    paths, structure = jax.tree.flatten_with_path(expected)
    shapes = {
        jax.tree_util.keystr(path, simple=True, separator="/"): shape.shape
        for path, shape in paths
    }
    mismatched = [
        name
        for name in shapes.keys() | leaves.keys()
        if shapes.get(name) != getattr(leaves.get(name), "shape", None)
    ]
    if mismatched:
        raise ValueError(
            f"{folder} does not match what its method trains: {len(mismatched)} leaves "
            f"are missing, unexpected or of another shape, first {min(mismatched)}."
        )
    _check_finite(folder / "theta.safetensors", leaves)
    return jax.tree.unflatten(structure, [jnp.asarray(leaves[name]) for name in shapes])


def _check_finite(path: pathlib.Path, leaves: Mapping[str, np.ndarray]) -> None:
    """ValueError, with the leaf's name, for NaN and infinities."""
    for name, leaf in leaves.items():
        if not is_finite(leaf):
            raise ValueError(
                f"{path}: {name} has NaN or infinite numbers; its training diverged, "
                "or the file is damaged."
            )

"""Records: an opened file, what an adapter changes, and a family of files."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from personax.concepts.artifact import Artifact
from personax.core.tree import flat, overwrite
from personax.core.typing import Key, Params, Theta
from personax.diffusion.denoiser import Denoiser
from personax.loading.names import from_layout, to_layout
from personax.loading.stored import Stored
from personax.methods import Concept, Method, Part
from personax.methods.parts.tokens import tokens
from personax.networks.unet import UNetConfig

Weight = Float[np.ndarray, "..."]
# A parameter W to the changed one, both float32 in torch's layout.
Change = Callable[[Weight], Weight]


class File(NamedTuple):
    """An adapter's file, opened: its tensors are views that are read when used."""

    path: pathlib.Path
    tensors: Stored
    metadata: Mapping[str, str] = {}  # of a safetensors file
    config: Mapping[str, Any] | None = None  # PEFT's adapter_config.json beside it
    tree: Any = None  # a pickle's values as they are nested; see `read_pickle`
    allow_pickle: bool = False  # whether files beside it may be pickles


class Adapter(NamedTuple):
    """What a file changes: parameters by our path, and new words."""

    changes: Mapping[str, Change] = {}
    words: Mapping[str, Float[np.ndarray, "n d"]] = {}
    names: Mapping[str, str] = {}  # {another name: one of the words}


class Family(NamedTuple):
    """One kind of file; see the package's docstring."""

    kind: Callable[[File], str | None]
    read: Callable[[File, Params, UNetConfig], Adapter]
    names: Sequence[str] = ()


def to_artifact(
    adapter: Adapter, path: pathlib.Path, kind: str, count: int, size: int
) -> Artifact:
    """The adapter as a concept: a part with its changes, and one with its words."""
    parts = {}
    if adapter.changes:
        parts["adapter"] = _changes(adapter.changes, f"{path} looks like {kind}")
    concepts, rows = [], []
    for word, vectors in adapter.words.items():
        ids = tuple(range(size, size + len(vectors)))
        concepts.append(Concept(word, "", ids, (None,) * len(ids), word))
        rows.append(np.asarray(vectors, np.float32))
        size += len(vectors)
    theta: Theta = {}
    if rows:
        parts["tokens"] = tokens()
        theta["tokens"] = {"embedding": jnp.asarray(np.concatenate(rows))}
    about = {
        "method": kind,
        "summary": _summary(adapter, count),
        "names": dict(adapter.names),
    }
    return Artifact(Method(parts, _untrainable), theta, {}, tuple(concepts), about)


def _changes(changes: Mapping[str, Change], label: str) -> Part:
    """A part that applies the changes; it has no theta."""

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        own = flat(denoiser.params)
        leaves = {
            path: _changed(path, own[path], change, label)
            for path, change in changes.items()
        }
        return dataclasses.replace(denoiser, params=overwrite(denoiser.params, leaves))

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        return {}

    return Part(init, bind)


def _changed(path: str, leaf: jax.Array, change: Change, label: str) -> jax.Array:
    W = from_layout(path, np.asarray(leaf).astype(np.float32))
    try:
        new = np.asarray(change(W), np.float32)
    except ValueError as error:
        raise ValueError(
            f"{label}, but its change does not fit {path} of shape {W.shape}: {error}"
        )
    if new.shape != W.shape:
        raise ValueError(
            f"{label}, but its change of {path} has shape {new.shape}, the base's "
            f"parameter {W.shape}."
        )
    ours = np.ascontiguousarray(to_layout(path, new, leaf.ndim))
    return jax.device_put(ours.astype(leaf.dtype), leaf.sharding)


def _untrainable(*_: Any) -> Any:
    raise TypeError("An adapter's file has no loss.")


def _summary(adapter: Adapter, count: int) -> str:
    """ "192 tensors applied to 64 parameters of the UNet and …"."""
    parts = []
    for component, title in (("unet", "UNet"), ("text_encoder", "text encoder")):
        paths = [path for path in adapter.changes if path.startswith(f"{component}/")]
        if paths:
            parts.append(f"{len(paths)} parameters of the {title}")
    parts += [
        f"the word {word!r} ({len(rows)} vector{'s' if len(rows) > 1 else ''})"
        for word, rows in adapter.words.items()
    ]
    plural = "" if count == 1 else "s"
    return f"{count} tensor{plural} applied to {', '.join(parts)}"

"""Whole differences of parameters under kohya's names, for web UIs."""

import numpy as np

from personax.concepts.bind import Model
from personax.concepts.exports.changes import Changes, find_changes
from personax.concepts.exports.kohya import kohya_name, metadata
from personax.concepts.exports.request import (
    Exported,
    Request,
    no_weights,
    write_file,
)
from personax.loading import Base
from personax.loading.write import to_torch


def diff_tensors(changes: Changes, dtype: str) -> dict[str, np.ndarray]:
    """{"MODULE.diff": W' - W, "MODULE.diff_b": b' - b} of every changed parameter.

    W is a kernel, a norm's scale or an embedding table. A1111 reads a bias only beside
    a weight, so a bias that changed alone comes with a difference of zeros.
    """
    tensors = {}
    for path in changes.paths:
        module, _, leaf = path.rpartition("/")
        name = kohya_name(path)
        if leaf != "bias":
            tensors[f"{name}.diff"] = to_torch(path, changes.delta(path), dtype)
            continue
        tensors[f"{name}.diff_b"] = to_torch(path, changes.delta(path), dtype)
        weights = (f"{module}/{each}" for each in ("kernel", "scale"))
        weight = next(each for each in weights if each in changes.before)
        zeros = np.zeros(np.shape(changes.before[weight]), np.float32)
        tensors.setdefault(f"{name}.diff", to_torch(weight, zeros, dtype))
    return tensors


def unread_by_comfyui(changes: Changes) -> list[str]:
    """Changed parameters of the text encoder that ComfyUI has no name for.

    It reads the projections of attention and the two layers of each MLP.
    """
    read = ("_proj/kernel", "_proj/bias", "/fc1/kernel", "/fc1/bias")
    read += ("/fc2/kernel", "/fc2/bias")
    return [
        path
        for path in changes.paths
        if path.startswith("text_encoder/") and not path.endswith(read)
    ]


def export_diff(model: Model, base: Base, request: Request) -> Exported:
    """Write the difference of every changed parameter."""
    changes = find_changes(model, base)
    tensors = diff_tensors(changes, request.dtype)
    if not tensors:
        raise ValueError(no_weights(changes, request.to))
    values = metadata(
        base.spec,
        request.out,
        module="lycoris.kohya",
        rank="Dynamic",
        alpha="Dynamic",
        base=base.name,
        words=changes.words,
    )
    values["ss_network_args"] = '{"algo": "full"}'
    notes = list(write_file(request, tensors, values, changes.words))
    unread = unread_by_comfyui(changes)
    if unread:
        notes.append(
            f"ComfyUI reads no norms and embeddings of the text encoder: {len(unread)} "
            "of these; --to single-file holds all."
        )
    return Exported(f"Differences of {len(tensors)} parameters", tuple(notes))

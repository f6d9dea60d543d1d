"""Custom Diffusion: diffusers' attention processors, and plain names as Adobe's."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from personax.concepts.bind import Model
from personax.concepts.exports.changes import Changes, find_changes
from personax.concepts.exports.embedding_files import check_names, write_word
from personax.concepts.exports.request import (
    Exported,
    Request,
    no_weights,
)
from personax.core.files import atomic_folder
from personax.core.tensor_file import write_tensors
from personax.loading import Base
from personax.loading.names import torch_name
from personax.loading.write import to_torch

WEIGHTS = "pytorch_custom_diffusion_weights.safetensors"
DELTA = "delta.safetensors"
_KV = ("to_k/kernel", "to_v/kernel")
_ALL = (*_KV, "to_q/kernel", "to_out/0/kernel", "to_out/0/bias")


def check(changes: Changes) -> None:
    """ValueError if a parameter outside the cross-attentions changed."""
    others = [path for path in changes.paths if "/attn2/" not in path]
    if others:
        raise ValueError(
            f"The concept changes {len(others)} parameters outside the "
            f"cross-attentions, first {others[0]}; the format custom-diffusion holds "
            "cross-attentions and words alone. --to diff is exact, --to lora the "
            "nearest low-rank change."
        )


def write_files(folder: pathlib.Path, changes: Changes, dtype: str) -> None:
    """Write the three kinds of file into an existing folder.

    `WEIGHTS` is what diffusers' training script writes, in full: `load_attn_procs` with
    `_pipeline=pipe` reads it. `DELTA` has the same kernels under the UNet's own names,
    as in Adobe's delta.bin, for `unet.load_state_dict(…, strict=False)`. A file such as
    <v1>.safetensors is a word, for `load_textual_inversion`.
    """
    state = {
        path: to_torch(path, leaf, dtype) for path, leaf in trained(changes).items()
    }
    delta = {torch_name(path.removeprefix("unet/")): x for path, x in state.items()}
    write_tensors(folder / DELTA, delta, {"format": "pt"})
    tensors = processors(delta, changes.after)
    write_tensors(folder / WEIGHTS, tensors, {"format": "pt"})
    for word in changes.words:
        write_word(folder / f"{word.token}.safetensors", word, dtype)


def trained(changes: Changes) -> dict[str, Any]:
    """{path: parameter}: keys and values of every cross-attention, or all of each."""
    leaves = [path for path in changes.paths if "/attn2/" in path]
    names = _KV if all(path.endswith(_KV) for path in leaves) else _ALL
    return {
        path: leaf
        for path, leaf in changes.after.items()
        if "/attn2/" in path and path.endswith(names)
    }


def processors(
    delta: Mapping[str, np.ndarray], params: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The kernels under the names of diffusers' attention processors.

    Every self-attention has an entry without numbers: diffusers expects one for each,
    and its own safetensors files, which lack them, cannot be loaded.
    """
    tensors = {}
    for name, array in delta.items():
        module, rest = name.split(".attn2.")
        layer, _, leaf = rest.partition(".")
        tensors[f"{module}.attn2.processor.{layer}_custom_diffusion.{leaf}"] = array
    for path in params:
        if path.startswith("unet/") and path.endswith("/attn1/to_q/kernel"):
            module = path.removeprefix("unet/").removesuffix("/to_q/kernel")
            name = f"{module.replace('/', '.')}.processor"
            tensors[name] = np.zeros(0, np.float32)
    return tensors


def export_custom_diffusion(model: Model, base: Base, request: Request) -> Exported:
    """Write a folder with the three kinds of file."""
    changes = find_changes(model, base)
    if not changes.paths:
        raise ValueError(no_weights(changes, request.to))
    check(changes)
    check_names(changes.words)
    with atomic_folder(request.out) as temporary:
        write_files(temporary, changes, request.dtype)
    notes = [
        f'pipe.unet.load_attn_procs("{request.out}", weight_name='
        f'"{WEIGHTS}", _pipeline=pipe); without _pipeline diffusers '
        "ignores the file."
    ]
    notes += [
        f'pipe.load_textual_inversion("{request.out}", weight_name='
        f'"{word.token}.safetensors").'
        for word in changes.words
    ]
    number = len(trained(changes))
    return Exported(f"Custom Diffusion of {number} attention weights", tuple(notes))

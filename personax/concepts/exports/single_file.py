"""A whole model as one file with LDM's names, for web UIs and `from_single_file`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from personax.concepts.bind import Model
from personax.concepts.exports.changes import find_changes
from personax.concepts.exports.kohya import architecture
from personax.concepts.exports.request import (
    Exported,
    Request,
    all_params,
    write_file,
)
from personax.core.tree import flat
from personax.core.typing import Params
from personax.diffusion.spec import Spec
from personax.loading import Base
from personax.loading.ldm import OPEN_CLIP, PREFIXES, ldm_names
from personax.loading.names import torch_name
from personax.loading.open_clip import open_clip_names
from personax.loading.write import to_torch


def ldm_tensors(params: Params, spec: Spec, dtype: str) -> dict[str, np.ndarray]:
    """{name in an LDM file: array} of {"unet", "vae", "text_encoder"}.

    The autoencoder's attention layers are 1x1 convolutions there; position_ids, which
    old readers require, are 0, 1, 2, ….
    """
    tensors: dict[str, np.ndarray] = {}
    for part, config in (("unet", spec.unet), ("vae", spec.vae)):
        leaves: Mapping[str, Any] = flat(params[part])
        names = ldm_names(part, leaves, config)
        for path, leaf in leaves.items():
            array = to_torch(path, leaf, dtype)
            if part == "vae" and array.ndim == 2:
                array = array[:, :, None, None]
            tensors[names[path]] = array
    tensors |= text_tensors(params["text_encoder"], spec, dtype)
    # What A1111 and ComfyUI know a model by that does not predict noise.
    if spec.schedule.prediction_type == "v_prediction":
        tensors["v_pred"] = np.zeros(0, np.float32)
    if spec.schedule.rescale_betas_zero_snr:
        tensors["ztsnr"] = np.zeros(0, np.float32)
    return tensors


def text_tensors(params: Params, spec: Spec, dtype: str) -> dict[str, np.ndarray]:
    """The text encoder's: transformers' names, or OpenCLIP's for 2.x."""
    if spec.text_encoder.hidden_act != "quick_gelu":
        return _open_clip_tensors(params, dtype)
    prefix = PREFIXES["text_encoder"]
    tensors = {
        prefix + torch_name(path): to_torch(path, leaf, dtype)
        for path, leaf in flat(params).items()
    }
    length = spec.text_encoder.max_position_embeddings
    positions = np.arange(length, dtype=np.int64)[None]
    tensors[f"{prefix}text_model.embeddings.position_ids"] = positions
    return tensors


def _open_clip_tensors(params: Params, dtype: str) -> dict[str, np.ndarray]:
    """OpenCLIP's names, with one projection for query, key and value."""
    leaves: Mapping[str, Any] = flat(params)
    names = open_clip_names(leaves, OPEN_CLIP)
    split = {names[path]: to_torch(path, x, dtype) for path, x in leaves.items()}
    tensors = {name: x for name, x in split.items() if not name.endswith("]")}
    for name in split:
        fused = name.removesuffix("[q]")
        if fused != name:
            pieces = [split[f"{fused}[{letter}]"] for letter in "qkv"]
            tensors[fused] = np.concatenate(pieces)
    return tensors


def export_single_file(model: Model, base: Base, request: Request) -> Exported:
    """Write the whole model; words go into files beside it."""
    changes = find_changes(model, base)
    params = all_params(changes, base)
    tensors = ldm_tensors(params, base.spec, request.dtype)
    values = {"format": "pt", "modelspec.sai_model_spec": "1.0.0"}
    values["modelspec.architecture"] = architecture(base.spec)
    values["modelspec.title"] = request.out.stem
    notes = write_file(request, tensors, values, changes.words)
    return Exported(f"A checkpoint of {len(tensors)} tensors", notes)

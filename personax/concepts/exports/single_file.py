"""A whole model as one file with LDM's names, for web UIs and `from_single_file`."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from personax.core.tree import flat
from personax.core.typing import Params
from personax.diffusion.spec import Spec
from personax.loading.ldm import PREFIXES, ldm_names
from personax.loading.names import torch_name
from personax.loading.write import to_torch


def check(spec: Spec) -> None:
    """ValueError for Stable Diffusion 2.x, whose files have OpenCLIP's text encoder."""
    if spec.text_encoder.hidden_act != "quick_gelu":
        raise ValueError(
            "--to single-file writes Stable Diffusion 1.x; files of 2.x hold another "
            "text encoder, OpenCLIP's. --to diffusers holds this model."
        )


def ldm_tensors(params: Params, spec: Spec, dtype: str) -> dict[str, np.ndarray]:
    """{name in an LDM file: array} of {"unet", "vae", "text_encoder"}.

    The autoencoder's attention layers are 1x1 convolutions there. position_ids, which
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
    prefix = PREFIXES["text_encoder"]
    for path, leaf in flat(params["text_encoder"]).items():
        tensors[prefix + torch_name(path)] = to_torch(path, leaf, dtype)
    length = spec.text_encoder.max_position_embeddings
    positions = np.arange(length, dtype=np.int64)[None]
    tensors[f"{prefix}text_model.embeddings.position_ids"] = positions
    return tensors

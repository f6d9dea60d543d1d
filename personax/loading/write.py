"""A UNet of ours as diffusers writes one: config.json and safetensors."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from personax.loading.files import STEMS
from personax.loading.names import from_layout, torch_name
from personax.networks.unet import UNetConfig
from personax.tree import flat
from personax.typing import Params


def save_unet(
    params: Params, config: UNetConfig, folder: Path, *, dtype: str = "float16"
) -> None:
    """Writes the UNet as a directory that diffusers' UNet2DConditionModel loads.

    Raises ValueError for a number that `dtype` cannot hold.
    """
    leaves = {}
    for path, leaf in flat(params).items():
        tensor = from_layout(path, np.asarray(leaf, np.float32))
        with np.errstate(over="ignore"):
            leaves[torch_name(path)] = tensor.astype(dtype)
        if not np.isfinite(leaves[torch_name(path)]).all():
            raise ValueError(f"{path} holds a number that is not finite in {dtype}.")
    folder.mkdir(parents=True, exist_ok=True)
    save_file(leaves, folder / f"{STEMS['unet']}.safetensors", {"format": "pt"})
    values = {"_class_name": "UNet2DConditionModel", **dataclasses.asdict(config)}
    (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")

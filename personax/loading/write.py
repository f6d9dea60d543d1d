"""Write parameters under the published names and in torch's layout."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from personax.core.files import atomic_folder, write_json
from personax.core.tensor_file import write_tensors
from personax.core.tree import flat
from personax.core.typing import Params
from personax.loading.files import STEMS
from personax.loading.names import from_layout, torch_name
from personax.networks.controlnet import ControlNetConfig

DTYPES = ("float32", "float16")


def write_pipeline(
    folder: Path, pipeline: Path, params: Params, *, dtype: str = "float32"
) -> None:
    """Write a copy of the `pipeline` directory with another UNet, atomically.

    `params` are the UNet's, of the architecture in the pipeline's config. The other
    files (autoencoder, text encoder, tokenizer, scheduler) are copied unchanged. Raises
    ValueError for an existing `folder` or an unknown dtype.
    """
    _check(folder, dtype)
    weights = shutil.ignore_patterns("*.safetensors*", "*.bin*", "*.msgpack", "*.ckpt")
    with atomic_folder(folder) as temporary:
        # A Hub snapshot consists of links; the copy has the files themselves.
        shutil.copytree(pipeline / "unet", temporary / "unet", ignore=weights)
        for path in sorted(pipeline.iterdir()):
            if path.name in ("unet", "safety_checker", "feature_extractor"):
                continue
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, temporary / path.name)
        _write_weights(temporary / "unet", params, dtype)


def write_controlnet(
    folder: Path, params: Params, config: ControlNetConfig, *, dtype: str = "float32"
) -> None:
    """Write a ControlNet for diffusers' `ControlNetModel.from_pretrained`.

    Raises ValueError for an existing `folder` or an unknown dtype.
    """
    _check(folder, dtype)
    values = {"_class_name": "ControlNetModel", **dataclasses.asdict(config)}
    with atomic_folder(folder) as temporary:
        write_json(temporary / "config.json", dict(sorted(values.items())))
        _write_weights(temporary, params, dtype)


def _write_weights(folder: Path, params: Params, dtype: str) -> None:
    path = folder / f"{STEMS['unet']}.safetensors"
    # diffusers refuses a file without the name of the framework in its metadata.
    write_tensors(path, torch_state(params, dtype), {"format": "pt"})


def torch_state(params: Params, dtype: str = "float32") -> dict[str, np.ndarray]:
    """{torch's name: array in torch's layout}."""
    leaves: Mapping[str, Any] = flat(params)
    return {
        torch_name(path): np.ascontiguousarray(
            from_layout(path, np.asarray(leaf)).astype(dtype)
        )
        for path, leaf in leaves.items()
    }


def _check(folder: Path, dtype: str) -> None:
    if dtype not in DTYPES:
        raise ValueError(
            f"Unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}."
        )
    if folder.exists():
        raise ValueError(f"{folder} exists; choose another folder.")

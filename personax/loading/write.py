"""Parameters back to disk, under the published names and in torch's layout."""

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

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
    """Another UNet in a copy of the `pipeline` directory, in one piece.

    `params` are the UNet's, of the architecture that the pipeline's config says. What
    else the directory holds (autoencoder, text encoder, tokenizer, scheduler) goes
    along as it is. Raises ValueError where `folder` exists or a dtype does not.
    """
    _check(folder, dtype)
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    # A Hub snapshot is made of links: the copy has the files themselves.
    weights = shutil.ignore_patterns("*.safetensors*", "*.bin*", "*.msgpack", "*.ckpt")
    shutil.copytree(pipeline / "unet", unfinished / "unet", ignore=weights)
    for path in sorted(pipeline.iterdir()):
        if path.name in ("unet", "safety_checker", "feature_extractor"):
            continue
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, unfinished / path.name)
    _write_weights(unfinished / "unet", params, dtype)
    unfinished.rename(folder)


def write_controlnet(
    folder: Path, params: Params, config: ControlNetConfig, *, dtype: str = "float32"
) -> None:
    """A ControlNet as diffusers' `ControlNetModel.from_pretrained` reads it.

    Raises ValueError where `folder` exists or a dtype does not.
    """
    _check(folder, dtype)
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    values = {"_class_name": "ControlNetModel", **dataclasses.asdict(config)}
    text = json.dumps(values, indent=2, sort_keys=True)
    (unfinished / "config.json").write_text(f"{text}\n")
    _write_weights(unfinished, params, dtype)
    unfinished.rename(folder)


def _write_weights(folder: Path, params: Params, dtype: str) -> None:
    path = folder / f"{STEMS['unet']}.safetensors"
    # diffusers refuses a file that does not say which library's layout it has.
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
            f"No dtype {dtype!r} to write; there are: {', '.join(DTYPES)}."
        )
    if folder.exists():
        raise ValueError(f"{folder} exists; choose another folder.")

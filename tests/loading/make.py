"""Small pipelines on disk, written without torch."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save_file

from personax.core.tree import flat
from personax.loading import embedded
from personax.loading.names import torch_name, torch_shape
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.unet import UNetConfig, init_unet
from personax.networks.vae import VAEConfig, init_vae
from tests.small_configs import PIPELINE, SCHEDULER, SMALLEST_PIPELINE

_NETWORKS = {
    "unet": (init_unet, UNetConfig),
    "vae": (init_vae, VAEConfig),
    "text_encoder": (init_clip_text, CLIPTextConfig),
}
FILES = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


@functools.cache
def template(part: str, *, smallest: bool = False) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape} of a part of the small pipeline, or of the smallest."""
    config = (SMALLEST_PIPELINE if smallest else PIPELINE)[part]
    return shapes(part, _NETWORKS[part][1].from_json(config))


def shapes(part: str, config: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """{path: shape} of a part with any config."""
    init, _ = _NETWORKS[part]
    return flat(jax.eval_shape(lambda: init(jax.random.key(0), config)))


def state(part: str, seed: int = 0, *, smallest: bool = False) -> dict[str, np.ndarray]:
    """Random tensors under the names and in the shapes that torch has."""
    rng = np.random.default_rng(seed)
    return {
        torch_name(path): rng.normal(size=torch_shape(path, leaf.shape)).astype("f4")
        for path, leaf in template(part, smallest=smallest).items()
    }


def write_configs(directory: Path, *, smallest: bool = False) -> None:
    """Everything of the small pipeline but its weights."""
    for part, config in (SMALLEST_PIPELINE if smallest else PIPELINE).items():
        (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / part / "config.json").write_text(json.dumps(config))
    (directory / "scheduler").mkdir()
    path = directory / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(SCHEDULER))
    (directory / "model_index.json").write_text(json.dumps({"unet": ["diffusers", ""]}))
    shutil.copytree(embedded("pipeline") / "tokenizer", directory / "tokenizer")


def write_pipeline(
    directory: Path, seed: int = 0, *, smallest: bool = False
) -> dict[str, dict]:
    """The small pipeline in `directory`; returns {part: its tensors}."""
    write_configs(directory, smallest=smallest)
    states = {part: state(part, seed, smallest=smallest) for part in FILES}
    for part, tensors in states.items():
        save_file(tensors, directory / part / FILES[part])
    return states

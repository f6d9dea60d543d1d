"""Write parameters under the published names and in torch's layout."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from personax.core.files import atomic_folder, write_json
from personax.core.tensor_file import write_tensors
from personax.core.tree import flat
from personax.core.typing import Params
from personax.loading.files import STEMS, read_json
from personax.loading.names import from_layout, torch_name
from personax.loading.write_tokenizer import write_tokenizer
from personax.networks.controlnet import ControlNetConfig
from personax.networks.tokenizer import Tokenizer

DTYPES = ("float32", "float16", "bfloat16")
# Variants of weight files, by the dtype that each stands for.
VARIANTS = {"fp16": "float16", "bf16": "bfloat16", "fp32": "float32"}

# The classes in torch; diffusers no longer has those of Flax.
_CLASSES = {
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
}
# Components that the pipeline's class expects and that are not exported.
_ABSENT = ("safety_checker", "feature_extractor", "image_encoder")
_PIPELINE = "StableDiffusionPipeline"


def write_pipeline(
    folder: Path,
    configs: Path,
    params: Params,
    tokenizer: Tokenizer,
    *,
    added: Sequence[str] = (),
    dtype: str = "float32",
    variant: str | None = None,
    schedule: Mapping[str, Any] | None = None,
) -> None:
    """Write a pipeline that diffusers' `from_pretrained` opens, atomically.

    `params` are {"unet", "vae", "text_encoder"}, of the architectures in the config
    files of the folder `configs`, which also has the scheduler's; an embedding table
    with more rows than the config names is written with its own size. `added` are
    tokens whose embeddings are the rows after the tokenizer's vocabulary, in order. A
    `variant` is part of the names of the weight files; `schedule` replaces values of
    the scheduler's config. Nothing else is written: no
    safety checker, no feature extractor, which the pipeline then does without.

    Raises ValueError for an existing `folder`, an unknown dtype, and numbers that the
    dtype cannot hold.
    """
    _check(folder, dtype)
    with atomic_folder(folder) as temporary:
        for part, stem in STEMS.items():
            state = torch_state(params[part], dtype)
            values = read_json(configs / part / "config.json")
            if part == "text_encoder":
                table = state["text_model.embeddings.token_embedding.weight"]
                values["vocab_size"] = len(table)
            for name in ("dtype", "torch_dtype"):
                if name in values:
                    values[name] = dtype
            (temporary / part).mkdir()
            write_json(temporary / part / "config.json", values)
            _write_weights(temporary / part, stem, state, variant)
        scheduler = read_json(configs / "scheduler" / "scheduler_config.json")
        scheduler |= schedule or {}
        (temporary / "scheduler").mkdir()
        write_json(temporary / "scheduler" / "scheduler_config.json", scheduler)
        write_tokenizer(temporary / "tokenizer", tokenizer, added)
        index = pipeline_index(configs, scheduler)
        write_json(temporary / "model_index.json", index)


def pipeline_index(configs: Path, scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The content of model_index.json: torch's classes, and null for what is absent."""
    path = configs / "model_index.json"
    given = read_json(path) if path.is_file() else {}
    name = str(given.get("_class_name") or _PIPELINE).removeprefix("Flax")
    kind = str(scheduler.get("_class_name") or "DDIMScheduler").removeprefix("Flax")
    return {
        "_class_name": name if name.startswith("StableDiffusion") else _PIPELINE,
        "_diffusers_version": str(given.get("_diffusers_version", "0.42.1")),
        **{component: [None, None] for component in _ABSENT},
        "requires_safety_checker": False,
        "scheduler": ["diffusers", kind],
        **_CLASSES,
    }


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
        _write_weights(temporary, STEMS["unet"], torch_state(params, dtype), None)


def _write_weights(
    folder: Path, stem: str, state: Mapping[str, np.ndarray], variant: str | None
) -> None:
    dotted = f".{variant}" if variant else ""
    # diffusers refuses a file without the name of the framework in its metadata.
    write_tensors(folder / f"{stem}{dotted}.safetensors", state, {"format": "pt"})


def torch_state(params: Params, dtype: str = "float32") -> dict[str, np.ndarray]:
    """{torch's name: array in torch's layout}."""
    leaves: Mapping[str, Any] = flat(params)
    return {
        torch_name(path): to_torch(path, leaf, dtype) for path, leaf in leaves.items()
    }


def to_torch(path: str, leaf: Any, dtype: str = "float32") -> np.ndarray:
    """One parameter, contiguous, in torch's layout and in `dtype`."""
    return cast(path, np.ascontiguousarray(from_layout(path, np.asarray(leaf))), dtype)


def cast(name: str, array: np.ndarray, dtype: str) -> np.ndarray:
    """`array` in `dtype`; ValueError, with its name, if finite numbers overflow."""
    with np.errstate(over="ignore"):
        out = array.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    if dtype == "float16" and np.isinf(out).any() and np.isfinite(array).all():
        raise ValueError(
            f"{name} has {np.abs(array).max():.3g}, more than float16 can hold; pass "
            "--dtype bfloat16 or float32."
        )
    return out


def check_dtype(dtype: str) -> None:
    """ValueError for a dtype that is not one of `DTYPES`."""
    if dtype not in DTYPES:
        raise ValueError(
            f"Unknown dtype {dtype!r}; expected one of {', '.join(DTYPES)}."
        )


def _check(folder: Path, dtype: str) -> None:
    check_dtype(dtype)
    if folder.exists():
        raise ValueError(f"{folder} exists; choose another folder.")

"""The published configs and the tokenizer that a single-file checkpoint lacks.

They are package data: assets/stable_diffusion has a directory in diffusers' layout,
without weights, for each of `KINDS`. All share one vocabulary.
"""

from importlib import resources
from pathlib import Path

import numpy as np

from personax.loading.stored import Stored

# {directory: the models whose published configs it has}.
KINDS = {
    "v1": "Stable Diffusion 1.1 to 1.5",
    "v1_inpaint": "Stable Diffusion 1.5 inpainting",
    "v2": "Stable Diffusion 2.0 and 2.1, v prediction at 768 pixels",
    "v2_base": "Stable Diffusion 2.0 and 2.1 base, 512 pixels",
    "v2_inpaint": "Stable Diffusion 2.0 inpainting",
}

_UNET = "model.diffusion_model."
_CROSS = f"{_UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
_CONV_IN = f"{_UNET}input_blocks.0.0.weight"
_LAST_NORM = f"{_UNET}output_blocks.11.1.transformer_blocks.0.norm1.bias"
# Steps that the file of 2.0 base says it was trained for; diffusers knows it by them.
_BASE_STEPS = 875_000
# ComfyUI's threshold: the deviation of the last transformer's first bias is above it in
# 2.x models of v prediction, and below in the base models.
_V_DEVIATION = 0.09


def directory(kind: str) -> Path:
    """The directory with the configs of one of `KINDS`."""
    return _assets() / kind


def vocabulary() -> Path:
    """The directory with vocab.json and merges.txt of OpenAI's CLIP."""
    return _assets() / "tokenizer"


def kind_of(path: Path, stored: Stored) -> str:
    """The one of `KINDS` whose configs a single-file checkpoint has.

    The width of the text that cross-attention reads is 768 in 1.x and 1024 in 2.x; 9
    input channels are an inpainting model's. A 2.x model predicts v if the file has the
    marker `v_pred`; else noise if it counts 875,000 steps, as 2.0 base does; else v if
    a bias deviates by more than 0.09, ComfyUI's rule. (diffusers takes v for all.)
    Raises ValueError for a checkpoint of another width.
    """
    widths = {768: "v1", 1024: "v2"}
    cross = stored[_CROSS].shape[-1] if _CROSS in stored else None
    if cross not in widths:
        found = f"reads texts of width {cross}" if cross else f"has no {_CROSS}"
        raise ValueError(
            f"{path} {found}: neither Stable Diffusion 1.x (768) nor 2.x (1024); give "
            "`config` (--base_config) a directory in diffusers' layout with the "
            "model's configs and tokenizer."
        )
    family = widths[cross]
    if _CONV_IN in stored and stored[_CONV_IN].shape[1:2] == (9,):
        return f"{family}_inpaint"
    if family == "v2" and not _predicts_v(stored):
        return "v2_base"
    return family


def _predicts_v(stored: Stored) -> bool:
    if "v_pred" in stored:
        return True
    if "global_step" in stored and int(stored["global_step"].flat[0]) == _BASE_STEPS:
        return False
    bias = stored.get(_LAST_NORM)
    return bias is not None and float(np.std(bias.astype(np.float64))) > _V_DEVIATION


def _assets() -> Path:
    return Path(str(resources.files("personax") / "assets" / "stable_diffusion"))

"""kohya's names of modules, and the metadata of its files."""

import pathlib
from collections.abc import Sequence

from personax.concepts.exports.changes import Word
from personax.diffusion.spec import Spec

_PREFIXES = {"unet": "lora_unet_", "text_encoder": "lora_te_"}


def kohya_name(path: str) -> str:
    """The module of a parameter's path: "lora_unet_…_attn2_to_k"."""
    component, _, rest = path.rpartition("/")[0].partition("/")
    return _PREFIXES[component] + rest.replace("/", "_")


def metadata(
    spec: Spec,
    out: pathlib.Path,
    *,
    module: str,
    rank: int | str,
    alpha: float | str,
    base: str,
    words: Sequence[Word] = (),
) -> dict[str, str]:
    """The ss_* and modelspec.* entries that web UIs read.

    Source: kohya-ss/sd-scripts, train_network.py and library/sai_model_spec.py. There
    is no date, so that equal concepts give equal files.
    """
    second, velocity = _is_second(spec), _predicts_velocity(spec)
    version = ("sd_v2_768_v" if velocity else "sd_v2") if second else "sd_v1"
    height, width = spec.size
    values = {
        "format": "pt",
        "ss_network_module": module,
        "ss_network_dim": str(rank),
        "ss_network_alpha": f"{alpha:g}" if isinstance(alpha, float) else str(alpha),
        "ss_base_model_version": version,
        "ss_v2": str(second),
        "ss_sd_model_name": pathlib.Path(base).name,
        "ss_output_name": out.stem,
        "ss_resolution": f"({width}, {height})",
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{architecture(spec)}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": out.stem,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.prediction_type": "v" if velocity else "epsilon",
    }
    if words:
        values["modelspec.trigger_phrase"] = " ".join(
            word.text or word.name for word in words
        )
    return values


def architecture(spec: Spec) -> str:
    """The name of a model's family in Stability AI's ModelSpec."""
    if not _is_second(spec):
        return "stable-diffusion-v1"
    return f"stable-diffusion-v2-{'768-v' if _predicts_velocity(spec) else '512'}"


def _is_second(spec: Spec) -> bool:
    return spec.text_encoder.hidden_act != "quick_gelu"


def _predicts_velocity(spec: Spec) -> bool:
    return spec.schedule.prediction_type == "v_prediction"

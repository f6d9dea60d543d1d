"""One part of a model from its own files: an autoencoder, a UNet, a ControlNet.

A source is a directory as diffusers writes a part (config.json and weights), a pipeline
with the part in it, a Hugging Face id, or one file of weights: under diffusers' names,
or under LDM's, with the prefix that they have in a whole checkpoint or without.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from personax.core.files import expand
from personax.core.typing import Key, Params
from personax.loading import files, ldm, names
from personax.loading.stored import Stored, check_finite
from personax.networks.controlnet import ControlNetConfig, init_controlnet
from personax.networks.unet import UNetConfig, init_unet
from personax.networks.vae import VAEConfig, init_vae


class Kind(NamedTuple):
    """How one part is called, in config.json and in files of either dialect."""

    title: str
    class_name: str
    config: Any
    init: Callable[[Key, Any], Params]
    start: str  # of a name under diffusers' names
    ldm_prefix: str
    ldm_start: str  # of a name behind the prefix


KINDS = {
    "vae": Kind(
        "an autoencoder",
        "AutoencoderKL",
        VAEConfig,
        init_vae,
        "decoder.up_blocks.",
        ldm.PREFIXES["vae"],
        "decoder.up.",
    ),
    "unet": Kind(
        "a UNet",
        "UNet2DConditionModel",
        UNetConfig,
        init_unet,
        "up_blocks.",
        ldm.PREFIXES["unet"],
        "output_blocks.",
    ),
    "controlnet": Kind(
        "a ControlNet",
        "ControlNetModel",
        ControlNetConfig,
        init_controlnet,
        "controlnet_cond_embedding.",
        ldm.CONTROL_PREFIX,
        "input_hint_block.",
    ),
}
_STEM = "diffusion_pytorch_model"
# Left over from training, in files of a part alone.
_IGNORED = re.compile(r"loss\..*|model_ema\..*|.*position_ids|logvar")
_MARKER = "difference"


class PartFile(NamedTuple):
    """A part's config, the shapes of its parameters, and its tensors by our paths."""

    config: Any
    template: Mapping[str, Any]
    tensors: Stored


def open_part(
    part: str,
    source: str | Path,
    config: Any,
    *,
    variant: str | None = None,
    allow_pickle: bool = False,
) -> PartFile:
    """The `part` of KINDS at `source`.

    `config` is used for one file without a config.json beside it: a record, or a
    function that makes one of the file's tensors under diffusers' or LDM's names.
    Raises FileNotFoundError for missing files, and ValueError for files of anything
    else, and for tensors that are missing, extra or misshapen.
    """
    kind = KINDS[part]
    path = expand(source)
    if (path / part).is_dir():
        path = path / part
    if not path.is_file():
        path = files.find_network(
            path if path.exists() else source,
            _STEM,
            variant=variant,
            allow_pickle=allow_pickle,
        )
    if path.is_dir():
        config = _read_config(path / "config.json", kind)
        stored = files.open_weights(
            path, _STEM, variant=variant, allow_pickle=allow_pickle
        )
    else:
        stored = files.open_file(path, allow_pickle=allow_pickle)
        own = path.parent / "config.json"
        if own.is_file() and files.read_json(own).get("_class_name") == kind.class_name:
            config = _read_config(own, kind)
    prefix = _ldm_prefix(part, path, stored)
    if prefix is not None:
        stored = {k: v for k, v in stored.items() if k.startswith(prefix)}
        stored = {
            k: v for k, v in stored.items() if not _IGNORED.fullmatch(k[len(prefix) :])
        }
    if callable(config):
        plain = {name.removeprefix(prefix or ""): x for name, x in stored.items()}
        config = config(plain)
    template: Mapping[str, Any] = names.template(kind.init, config)
    if prefix is None:
        by_path = names.diffusers_names(part, template, stored)
    else:
        whole = kind.ldm_prefix
        by_path = {
            path: prefix + name.removeprefix(whole)
            for path, name in ldm.ldm_names(part, template, config).items()
        }
    match = names.match(template, by_path, stored)
    names.report(str(source), [match])
    check_finite(path, match.tensors)
    return PartFile(config, template, match.tensors)


def is_unet(path: Path, *, allow_pickle: bool = False) -> bool:
    """Whether a path is a UNet alone, which has no text encoder and no autoencoder."""
    if path.is_dir():
        config = path / "config.json"
        if (path / "model_index.json").is_file() or not config.is_file():
            return False
        return files.read_json(config).get("_class_name") == KINDS["unet"].class_name
    if not path.is_file() or (path.suffix != ".safetensors" and not allow_pickle):
        return False
    stored = files.open_file(path, allow_pickle=allow_pickle)
    others = (ldm.PREFIXES["vae"], ldm.PREFIXES["text_encoder"], ldm.OPEN_CLIP)
    if any(name.startswith(others) for name in stored):
        return False
    kind = KINDS["unet"]
    starts = (kind.ldm_prefix + kind.ldm_start, kind.ldm_start, "up_blocks.0.resnets.")
    return any(name.startswith(starts) for name in stored)


def check_vae(source: str | Path, vae: VAEConfig, base: VAEConfig) -> None:
    """ValueError for an autoencoder with other latents than the base's UNet takes."""
    fields = {
        "latent_channels": (vae.latent_channels, base.latent_channels),
        "pixels per latent cell": (vae.factor, base.factor),
    }
    for name, (ours, theirs) in fields.items():
        if ours != theirs:
            raise ValueError(
                f"The autoencoder {source} has {ours} {name}; the base's UNet takes "
                f"latents of {theirs}."
            )
    if not math.isclose(vae.scaling_factor, base.scaling_factor, rel_tol=1e-3):
        raise ValueError(
            f"The autoencoder {source} scales latents by {vae.scaling_factor:g}, the "
            f"base by {base.scaling_factor:g}: it belongs to another family of models, "
            "such as Stable Diffusion XL."
        )


def controlnet_config(unet: UNetConfig) -> Callable[[Stored], ControlNetConfig]:
    """The config of a ControlNet's file: a UNet's encoder, its own hint encoder."""

    def read(stored: Stored) -> ControlNetConfig:
        conv_in = stored.get("conv_in.weight", stored.get("input_blocks.0.0.weight"))
        # Every second layer widens; LDM counts the activations between them as well.
        hint, ldm_hint = "controlnet_cond_embedding", "input_hint_block"
        names = [f"{hint}.conv_in", *(f"{hint}.blocks.{i}" for i in range(1, 99, 2))]
        names += [f"{ldm_hint}.{i}" for i in range(0, 99, 4)]
        found = (stored.get(f"{name}.weight") for name in names)
        widths = [len(weight) for weight in found if weight is not None]
        channels = unet.in_channels if conv_in is None else conv_in.shape[1]
        plain = dataclasses.replace(unet, in_channels=channels)
        return ControlNetConfig.of(plain, widths)

    return read


def _read_config(path: Path, kind: Kind) -> Any:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path.parent} has no config.json; {kind.title} in diffusers' layout is a "
            f"directory with that and {_STEM}.safetensors."
        )
    values = files.read_json(path)
    found = values.get("_class_name", kind.class_name)
    if found != kind.class_name:
        raise ValueError(f"{path} describes a {found}; expected {kind.class_name}.")
    try:
        return kind.config.from_json(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}")


def _ldm_prefix(part: str, path: Path, stored: Stored) -> str | None:
    """The prefix of LDM's names in a file; None under diffusers' names.

    Raises ValueError for a file with neither.
    """
    kind = KINDS[part]
    if _MARKER in stored:
        raise ValueError(
            f"{path} holds a ControlNet's difference from a UNet, which is not read; "
            "use the whole ControlNet."
        )
    for prefix in (kind.ldm_prefix, ""):
        if any(name.startswith(prefix + kind.ldm_start) for name in stored):
            return prefix
    if any(name.startswith(kind.start) for name in stored) or path.is_dir():
        return None
    some = ", ".join(sorted(stored)[:3]) or "none"
    raise ValueError(
        f"{path} is not {kind.title}: no tensor's name starts with {kind.start} or "
        f"{kind.ldm_prefix}{kind.ldm_start}; it has {some}."
    )

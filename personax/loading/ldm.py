"""Names in a single-file CompVis (LDM) checkpoint, computed from the configs."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from personax.loading.names import torch_name
from personax.loading.stored import Stored
from personax.networks.controlnet import ControlNetConfig
from personax.networks.encoder import EncoderConfig, skip_channels
from personax.networks.unet import UNetConfig
from personax.networks.vae import VAEConfig

PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}
# A ControlNet's, in its own file.
CONTROL_PREFIX = "control_model."
# The text encoder of 2.x, under OpenCLIP's names.
OPEN_CLIP = "cond_stage_model.model."
# Tensors, often empty, whose presence alone says what the model is.
MARKERS = frozenset(["v_pred", "ztsnr"])

# Left over from training: schedule, averages, the discriminator, counters.
_IGNORED = re.compile(
    r"(first_stage_model\.|cond_stage_model\.)?model_ema\..*|"
    r"first_stage_model\.loss\..*|.*position_ids|global_step|epoch|"
    r"betas|alphas_cumprod\w*|sqrt_\w+|log_one_minus_\w+|posterior_\w+|lvlb_weights|"
    r"logvar|scale_factor|cond_stage_model\.logit_scale|"
    r"cond_stage_model\.transformer\.(vision_model|\w+_projection)\..*|"
    r"cond_stage_model\.transformer\.logit_scale"
)

# {start of a name: the files that have it}.
_OTHERS = {
    "conditioner.embedders.": "Stable Diffusion XL",
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "double_blocks.": "Flux",
    "control_model.": "a ControlNet",
    "lora_": "a LoRA",
    "down_blocks.": "a UNet of diffusers, which is read from a directory",
}

_UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "time_embedding.cond_proj": "time_embed.cond_proj",
    "conv_in": "input_blocks.0.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_INSIDE = {
    "conv_shortcut": "nin_shortcut",
    "group_norm": "norm",
    "to_q": "q",
    "to_k": "k",
    "to_v": "v",
    "to_out.0": "proj_out",
}


def split(path: Path, stored: Stored) -> dict[str, Stored]:
    """{part: its tensors} of a checkpoint; left-overs of training are dropped.

    Raises ValueError for a file that is not a checkpoint of Stable Diffusion 1.x or
    2.x, or that has tensors of other parts.
    """
    stored = {
        name: tensor
        for name, tensor in stored.items()
        if not _IGNORED.fullmatch(name) and name not in MARKERS
    }
    prefixes = dict(PREFIXES)
    if any(name.startswith(OPEN_CLIP) for name in stored):
        prefixes["text_encoder"] = OPEN_CLIP
    parts = {
        part: {name: t for name, t in stored.items() if name.startswith(prefix)}
        for part, prefix in prefixes.items()
    }
    lacking = [prefixes[part] for part, tensors in parts.items() if not tensors]
    if lacking:
        looks = [
            f" It looks like {model}."
            for start, model in _OTHERS.items()
            if any(name.startswith(start) for name in stored)
        ]
        raise ValueError(
            f"{path} is not a single-file checkpoint of Stable Diffusion 1.x or 2.x: "
            f"no tensor's name starts with {' or '.join(lacking)}; it has "
            f"{_some(stored)}.{''.join(looks[:1])}"
        )
    unknown = stored.keys() - {name for part in parts.values() for name in part}
    if unknown:
        raise ValueError(
            f"{path} has tensors of unknown parts of the model: {_some(unknown)}."
        )
    return parts


def ldm_names(
    component: str,
    paths: Iterable[str],
    config: UNetConfig | VAEConfig | ControlNetConfig,
) -> dict[str, str]:
    """{path: name in an LDM file} of a part's parameters.

    Its text encoder has transformers' own names behind the prefix.
    """
    inside = _UNET_RESNET
    if isinstance(config, UNetConfig):
        prefix, modules = PREFIXES[component], unet_modules(config)
    elif isinstance(config, ControlNetConfig):
        prefix, modules = CONTROL_PREFIX, controlnet_modules(config)
    else:
        prefix, modules, inside = PREFIXES[component], vae_modules(config), _VAE_INSIDE
    return {path: prefix + _rename(torch_name(path), modules, inside) for path in paths}


def controlnet_modules(config: ControlNetConfig) -> dict[str, str]:
    """{diffusers' module: LDM's} of a ControlNet: an encoder's, and its own layers."""
    modules = dict(_UNET_ENDS) | _encoder_modules(config)
    for k in range(len(skip_channels(config))):
        modules[f"controlnet_down_blocks.{k}"] = f"zero_convs.{k}.0"
    modules["controlnet_mid_block"] = "middle_block_out.0"
    hint = "controlnet_cond_embedding"
    blocks = 2 * (len(config.conditioning_embedding_out_channels) - 1)
    layers = ("conv_in", *(f"blocks.{i}" for i in range(blocks)), "conv_out")
    for i, layer in enumerate(layers):
        modules[f"{hint}.{layer}"] = f"input_hint_block.{2 * i}"
    return modules


def unet_modules(config: UNetConfig) -> dict[str, str]:
    """{diffusers' module: LDM's} of a UNet of any number of blocks and layers.

    LDM numbers all layers on the way down, samplers included, and all on the way up,
    where a sampler shares the number of the layer before it.
    """
    modules = dict(_UNET_ENDS) | _encoder_modules(config)
    layers = config.per_block("layers_per_block")
    n = 0
    for i, depth in enumerate(reversed(layers)):
        for j in range(depth + 1):
            modules[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{n}.0"
            modules[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{n}.1"
            n += 1
        place = 2 if config.up_block_types[i].startswith("CrossAttn") else 1
        upsampler = f"up_blocks.{i}.upsamplers.0.conv"
        modules[upsampler] = f"output_blocks.{n - 1}.{place}.conv"
    return modules


def _encoder_modules(config: EncoderConfig) -> dict[str, str]:
    """{diffusers' module: LDM's} of the way down."""
    modules = {}
    layers = config.per_block("layers_per_block")
    last = len(layers) - 1
    n = 1
    for i, depth in enumerate(layers):
        for j in range(depth):
            modules[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{n}.0"
            modules[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{n}.1"
            n += 1
        if i < last:
            modules[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n}.0.op"
            n += 1
    return modules


def vae_modules(config: VAEConfig) -> dict[str, str]:
    """{diffusers' module: LDM's} of an autoencoder of any number of blocks and layers.

    LDM counts the decoder's blocks from the image, diffusers from the latents.
    """
    modules = {}
    blocks = len(config.block_out_channels)
    for half in ("encoder", "decoder"):
        for k in range(2):
            modules[f"{half}.mid_block.resnets.{k}"] = f"{half}.mid.block_{k + 1}"
        modules[f"{half}.mid_block.attentions.0"] = f"{half}.mid.attn_1"
        modules[f"{half}.conv_norm_out"] = f"{half}.norm_out"
    for i in range(blocks):
        down, up = f"encoder.down.{i}", f"decoder.up.{blocks - 1 - i}"
        for j in range(config.layers_per_block):
            modules[f"encoder.down_blocks.{i}.resnets.{j}"] = f"{down}.block.{j}"
        for j in range(config.layers_per_block + 1):
            modules[f"decoder.up_blocks.{i}.resnets.{j}"] = f"{up}.block.{j}"
        modules[f"encoder.down_blocks.{i}.downsamplers.0"] = f"{down}.downsample"
        modules[f"decoder.up_blocks.{i}.upsamplers.0"] = f"{up}.upsample"
    return modules


def _rename(name: str, modules: Mapping[str, str], inside: Mapping[str, str]) -> str:
    """`name` with its module's prefix and the layer's name inside it replaced."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        module = ".".join(parts[:k])
        if module not in modules:
            continue
        rest, leaf = ".".join(parts[k:-1]), parts[-1]
        return ".".join(p for p in (modules[module], inside.get(rest, rest), leaf) if p)
    return name


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "none") + more

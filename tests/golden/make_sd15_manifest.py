"""Writes sd15_manifest.json from torch: `python -m tests.golden.make_sd15_manifest`.

The published configs of Stable Diffusion 1.5 are what diffusers' and transformers'
classes are given; torch's meta device makes the names and shapes without the weights.
"""

import json
import pathlib

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

UNET = {
    "attention_head_dim": 8,
    "block_out_channels": (320, 640, 1280, 1280),
    "cross_attention_dim": 768,
    "layers_per_block": 2,
    "sample_size": 64,
}
VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "layers_per_block": 2,
    "sample_size": 512,
}
TEXT = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
}


def manifest() -> dict[str, dict[str, list[int]]]:
    """{component: {published name: shape}}."""
    with torch.device("meta"):
        parts = {
            "unet": UNet2DConditionModel(**UNET),
            "vae": AutoencoderKL(**VAE),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**TEXT)),
        }
    shapes = {
        part: {k: list(v.shape) for k, v in model.state_dict().items()}
        for part, model in parts.items()
    }
    # The published file is older than transformers 5.6, which drops this prefix.
    shapes["text_encoder"] = {
        f"text_model.{name.removeprefix('text_model.')}": shape
        for name, shape in shapes["text_encoder"].items()
        if not name.endswith("position_ids")
    }
    return shapes


if __name__ == "__main__":
    path = pathlib.Path(__file__).parent / "sd15_manifest.json"
    lines = [f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in manifest().items()]
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")

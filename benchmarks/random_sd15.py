"""Writes a base of Stable Diffusion 1.5's size with random weights.

    python -m benchmarks.random_sd15 DIR

For runs at full size where no pretrained weights can be had: diffusers' layout, 2 GB in
float16. The tokenizer is the embedded base's, told to pad to 77 tokens.
"""

import dataclasses
import json
import pathlib
import shutil
import sys

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
from transformers import CLIPTextModel

from personax.loading import embedded
from personax.spec import Spec


def main(out: pathlib.Path) -> None:
    torch.manual_seed(0)
    sd15 = dataclasses.asdict(Spec())  # the defaults, under the published names
    blocks = len(sd15["vae"]["block_out_channels"])
    sd15["vae"]["down_block_types"] = ("DownEncoderBlock2D",) * blocks
    sd15["vae"]["up_block_types"] = ("UpDecoderBlock2D",) * blocks
    sd15["text_encoder"]["eos_token_id"] = 1211  # the embedded vocabulary's
    text = CLIPTextModel.config_class(**sd15["text_encoder"])
    parts = {
        "unet": UNet2DConditionModel(**sd15["unet"]),
        "vae": AutoencoderKL(**sd15["vae"]),
        "text_encoder": CLIPTextModel(text),
        "scheduler": PNDMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            set_alpha_to_one=False,
            skip_prk_steps=True,
            steps_offset=1,
        ),
    }
    for name, part in parts.items():
        if isinstance(part, torch.nn.Module):
            part = part.half()
        part.save_pretrained(out / name)
    tokenizer = out / "tokenizer"
    shutil.copytree(embedded("pipeline") / "tokenizer", tokenizer, dirs_exist_ok=True)
    settings = json.loads((tokenizer / "tokenizer_config.json").read_text())
    settings["model_max_length"] = 77
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))

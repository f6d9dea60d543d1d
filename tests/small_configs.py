"""The small models' configs that tests share, as records and as published JSON."""

import dataclasses

from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.spec import Spec
from personax.networks.clip_text import CLIPTextConfig
from personax.networks.unet import UNetConfig
from personax.networks.vae import VAEConfig

CROSS, DOWN = "CrossAttnDownBlock2D", "DownBlock2D"
UP, CROSS_UP = "UpBlock2D", "CrossAttnUpBlock2D"

# Stable Diffusion's betas.
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}

# A whole model: every kind of layer, fewer than 300,000 parameters.
TINY = Spec(
    unet=UNetConfig(
        block_out_channels=(16, 32),
        down_block_types=(CROSS, DOWN),
        up_block_types=(UP, CROSS_UP),
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=24,
        norm_num_groups=8,
        sample_size=8,
    ),
    text_encoder=CLIPTextConfig(
        hidden_size=24,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=64,
        max_position_embeddings=12,
        eos_token_id=63,
    ),
    vae=VAEConfig(block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4),
    schedule=ScheduleConfig(**BETAS),
)
# One block each way, SD's autoencoder: a gradient compiles in half of TINY's time.
ONE_BLOCK = Spec(
    unet=dataclasses.replace(
        TINY.unet,
        block_out_channels=(16,),
        down_block_types=(CROSS,),
        up_block_types=(CROSS_UP,),
    ),
    text_encoder=dataclasses.replace(TINY.text_encoder, num_hidden_layers=1),
    schedule=TINY.schedule,
)

# UNets that torch's are compared with: of two blocks, and of SD's four.
PARITY_UNET = UNetConfig(
    block_out_channels=(32, 64),
    down_block_types=(CROSS, DOWN),
    up_block_types=(UP, CROSS_UP),
    layers_per_block=1,
    attention_head_dim=4,
    cross_attention_dim=16,
    norm_num_groups=8,
)
FOUR_BLOCKS = dataclasses.replace(
    PARITY_UNET,
    block_out_channels=(32, 64, 96, 96),
    down_block_types=(CROSS, CROSS, CROSS, DOWN),
    up_block_types=(UP, CROSS_UP, CROSS_UP, CROSS_UP),
    layers_per_block=2,
    attention_head_dim=8,
)

# A pipeline's config.json files: {part: its values}.
PIPELINE = {
    "unet": {
        "_class_name": "UNet2DConditionModel",
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": [8, 16],
        "down_block_types": [CROSS, DOWN],
        "up_block_types": [UP, CROSS_UP],
        "layers_per_block": 1,
        "attention_head_dim": 2,
        "cross_attention_dim": 16,
        "norm_num_groups": 4,
    },
    "vae": {
        "_class_name": "AutoencoderKL",
        "latent_channels": 4,
        "block_out_channels": [8, 16],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "layers_per_block": 1,
        "norm_num_groups": 4,
    },
    "text_encoder": {
        "model_type": "clip_text_model",
        "vocab_size": 1212,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
        "eos_token_id": 1211,
    },
}
# One block of each, which a whole process compiles in seconds.
SMALLEST_PIPELINE = {
    "unet": {
        **PIPELINE["unet"],
        "block_out_channels": [8],
        "down_block_types": [CROSS],
        "up_block_types": [CROSS_UP],
    },
    "vae": {
        **PIPELINE["vae"],
        "block_out_channels": [8],
        "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D"],
    },
    "text_encoder": {**PIPELINE["text_encoder"], "num_hidden_layers": 1},
}
SCHEDULER = {
    "_class_name": "DDIMScheduler",
    **BETAS,
    "clip_sample": False,
    "steps_offset": 1,
}

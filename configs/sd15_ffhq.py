"""Concept-centric personalization (Cao et al. 2023) on Stable Diffusion 1.5: FFHQ.

    python -m personax.build ffhq --from images1024x1024
    python -m personax.cache --config configs/sd15_ffhq.py --config.base DIR --out CACHE
    python -m personax.train --config configs/sd15_ffhq.py --config.base DIR \
        --config.stream.source cache:CACHE

The 815,533,444 parameters of the UNet without its text input; batch 32 at 512, AdamW at
a constant 1e-5 with decay 1e-2 (the paper), clipping to 1, an average with decay 0.9999
(UniDiffusion's configs, which also use 8-bit AdamW and mirrored pictures). The paper
trains "until convergence", the release 1,000,000 steps.
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "concept_centric"
    config.method_args = ConfigDict(
        {"null_norm": "attn_mean", "latents": 4, "steps": 25, "seed": 0}
    )
    config.concept.images = ""
    config.concept.placeholder = ""
    config.concept.class_word = "face"
    config.concept.initial = ""
    config.stream.source = "tfds:ffhq"
    config.stream.captions = "none"
    config.stream.flip = True
    config.stream.workers = 8
    config.size = 512
    config.optimizer.name = "adamw_8bit"
    config.optimizer.learning_rate = 1e-5
    config.batch = 32
    config.steps = 1_000_000
    config.ema_decay = 0.9999
    config.dtype = "bfloat16"
    config.loading.param_dtype = "bfloat16"
    # Fully sharded over the devices of a slice: without remat, the mesh with the least
    # memory and traffic of a v5e chip (benchmarks/README.md).
    config.mesh.shape.fsdp = -1
    config.mesh.base_rules = config.mesh.theta_rules = ((".*", "shard"),)
    config.log_every = 100
    config.save_every = 10_000
    config.preview.prompts = ("",)
    config.preview.guidance = 1.5
    config.preview.unconditional = "base"
    config.preview.every = 10_000
    return config

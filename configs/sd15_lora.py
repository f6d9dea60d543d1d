"""DreamBooth by LoRA on Stable Diffusion 1.5, as diffusers' example.

    python -m personax.train --config configs/sd15_lora.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word dog

Rank 4 on every attention kernel (797,184 parameters, 3.2 MB), "a photo of sks dog",
batch 1, 500 steps at 1e-4. Other kernels: --config.method_args.targets
'("attention","feed_forward","convolutions","text_encoder")'; prior preservation:
--config.prior.source generated.
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "lora"
    config.method_args = ConfigDict(
        {"rank": 4, "alpha": 4.0, "targets": ("attention",)}
    )
    config.concept.placeholder = ""
    config.concept.phrase = "sks {class_word}"
    config.concept.prompt = "a photo of {}"
    config.optimizer.learning_rate = 1e-4
    config.batch = 1
    config.steps = 500
    config.preview.prompts = ("a photo of {}", "a photo of {} on the beach")
    config.preview.guidance = 7.5
    return config

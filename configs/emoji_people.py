"""Concept-centric personalization (Cao et al. 2023) on the embedded base: people.

    python -m personax.train --config configs/emoji_people.py

Portraits of baby, boy, girl, man, woman, old man and old woman, unseen by the base and
without captions, take the place of FFHQ. The null text is folded, the rest of the UNet
trains, and its average is kept. Sample with a guidance term of the concept and one of
the base on a prompt:

    python -m personax.sample --model face=runs/emoji_people/concept \
        --term "face@1.5:" --term "2.5:wearing glasses"
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "concept_centric"
    config.method_args = ConfigDict(
        {"null_norm": "attn_mean", "latents": 4, "steps": 25, "seed": 0, "min_snr": 5.0}
    )
    config.concept.images = ""
    config.concept.placeholder = ""
    config.concept.class_word = "face"
    config.concept.initial = ""
    config.stream.source = "portraits:people"
    config.stream.captions = "none"
    config.prior.source = ""
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "linear"
    config.optimizer.warmup = 50
    config.batch = 32
    config.steps = 1500
    config.ema_decay = 0.999
    config.save_every = 250
    config.preview.prompts = ("",)
    config.preview.images = 8
    config.preview.guidance = 1.5
    config.preview.unconditional = "base"
    config.preview.every = 500
    return config

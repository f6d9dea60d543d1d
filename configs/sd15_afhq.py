"""Concept-centric personalization (Cao et al. 2023) on Stable Diffusion 1.5: AFHQv2.

    python -m personax.train --config configs/sd15_afhq.py --config.base DIR

Like sd15_ffhq, on 15,803 animal faces.
"""

from ml_collections import ConfigDict

from configs import sd15_ffhq


def get_config() -> ConfigDict:
    config = sd15_ffhq.get_config()
    config.concept.class_word = "animal face"
    config.stream.source = "tfds:afhqv2"
    return config

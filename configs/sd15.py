"""Shared settings of the configs of Stable Diffusion 1.5; see common.py for every key.

Set --config.base DIR --config.concept.images FOLDER --config.concept.class_word cat.
Without pretrained weights at hand, none of these configs was run to the end; tests
build them and trace a step.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
    config = common.get_config()
    config.base = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.remat = "layer"
    config.preview.prompts = (
        "photo of a {}",
        "photo of a {} on the beach",
        "photo of a {} wearing a crown",
    )
    config.preview.steps = 50
    config.preview.guidance = 6.0
    config.prior.clip = ""  # a CLIP's directory, for retrieved sets
    return config

"""What the configs of Stable Diffusion 1.5 share; see common.py for every key.

Pass your own: --config.base DIR --config.concept.images FOLDER
--config.concept.class_word cat. None of them was run to the end by us, who have no
pretrained weights at hand; that they build and start is tested.
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
    config.prior.clip = ""  # a directory with a CLIP, for retrieved sets
    return config

"""Custom Diffusion on Stable Diffusion 1.5 (Kumari et al. 2023), single concept.

    python -m personax.train --config configs/sd15_custom_diffusion.py \
        --config.base DIR --config.concept.images FOLDER \
        --config.concept.class_word dog --config.concept.prompt "photo of a <v1> dog"

The paper's setting without its regularisation set and size augmentation: 250 steps of
batch 8 at 1e-5 scaled to 8e-5, AdamW. Trains 19,169,280 numbers of K/V and one row.
Not run to the end here, where no pretrained weights can be had.
"""

from ml_collections import ConfigDict

from configs import quickstart


def get_config() -> ConfigDict:
    config = quickstart.get_config()
    config.base = "stable-diffusion-v1-5/stable-diffusion-v1-5"
    config.concept.prompt = "photo of a <v1> dog"
    config.concept.initial = "ktn"  # id 42170
    config.optimizer.learning_rate = 8e-5
    config.steps = 250
    config.batch = 8
    config.remat = "layer"
    config.preview.steps = 50
    config.preview.guidance = 6.0
    return config

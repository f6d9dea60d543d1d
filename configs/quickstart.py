"""ClassDiffusion on the embedded base: a bundled penguin.

    python -m personax.train --config configs/quickstart.py

The base has not seen the penguin. Takes about two minutes on two CPU cores; pictures
are in runs/quickstart/grid.png. Then sample with:

    python -m personax.sample --concept runs/quickstart/concept \
        --prompt "a photo of a <v1> penguin at night" --out out/night
"""

from ml_collections import ConfigDict

from configs import emoji_class_diffusion


def get_config() -> ConfigDict:
    config = emoji_class_diffusion.get_config()
    config.concept.images = "penguin"
    config.concept.class_word = "penguin"
    config.preview.every = 125
    config.validation.every = 50
    return config

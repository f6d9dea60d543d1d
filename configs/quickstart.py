"""ClassDiffusion on the embedded base: a bundled penguin, which it has never seen.

    python -m personax.train --config configs/quickstart.py

About two minutes on two CPU cores. Pictures: runs/quickstart/grid.png. Then:

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

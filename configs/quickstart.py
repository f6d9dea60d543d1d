"""ClassDiffusion on the embedded base: the bundled dog, which it has never seen.

    python -m personax.train --config configs/quickstart.py

About two minutes on two CPU cores. Pictures: runs/quickstart/grid.png. Then:

    python -m personax.sample --concept runs/quickstart/concept \
        --prompt "a photo of a <v1> dog at night" --out out/dog
"""

from ml_collections import ConfigDict

from configs import emoji_class_diffusion


def get_config() -> ConfigDict:
    config = emoji_class_diffusion.get_config()
    config.preview.every = 125
    config.validation.every = 50
    return config

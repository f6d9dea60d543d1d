"""Custom Diffusion (Kumari et al. 2023) on the embedded base.

    python -m personax.train --config configs/emoji_custom_diffusion.py

K/V of every cross-attention and <v1>, with the paper's size augmentation and a
regularisation set that the embedded world renders. Its words go in front of the
caption, as in the world's own: "a far away photo of a <v1> dog".
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "custom_diffusion"
    return config

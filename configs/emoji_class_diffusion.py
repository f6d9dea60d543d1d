"""ClassDiffusion (Huang et al. 2024) on the embedded base: see quickstart.py."""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "class_diffusion"
    return config

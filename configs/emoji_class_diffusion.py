"""ClassDiffusion (Huang et al. 2024) on the embedded base.

    python -m personax.train --config configs/emoji_class_diffusion.py

Custom Diffusion with the semantic preservation loss. Unlike the paper's setting it has
a regularisation set, and the loss weighs 0.1 and not 1: in a text encoder 128 wide, a
word that is held as close as that to its class keeps no subject of its own.
"""

from ml_collections import ConfigDict

from configs import emoji_custom_diffusion


def get_config() -> ConfigDict:
    config = emoji_custom_diffusion.get_config()
    config.method = "class_diffusion"
    config.method_args.update(
        {
            "semantic_weight": 0.1,
            "pool": "eos",
            "keep_position": True,
            "reduce": "mean",
            "prompt": "fixed",
        }
    )
    return config

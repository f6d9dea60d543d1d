"""ClassDiffusion (Huang et al. 2024) on the embedded base.

    python -m personax.train --config configs/emoji_class_diffusion.py

Custom Diffusion with the semantic preservation loss. Unlike the paper it uses a
regularisation set, and a loss weight of 0.1 instead of 1: in a text encoder of width
128, a weight of 1 keeps the word so close to its class that it loses the subject.
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

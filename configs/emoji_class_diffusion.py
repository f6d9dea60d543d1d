"""ClassDiffusion (Huang et al. 2024) on the embedded base.

    python -m personax.train --config configs/emoji_class_diffusion.py

Custom Diffusion with the semantic preservation loss; unlike the paper's own setting,
with a regularisation set.
"""

from ml_collections import ConfigDict

from configs import emoji_custom_diffusion


def get_config() -> ConfigDict:
    config = emoji_custom_diffusion.get_config()
    config.method = "class_diffusion"
    config.method_args.update(
        {
            "semantic_weight": 1.0,
            "pool": "eos",
            "keep_position": True,
            "reduce": "mean",
            "prompt": "fixed",
        }
    )
    return config

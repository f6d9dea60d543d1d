"""Infusion (Zeng et al. 2024) on the embedded base.

    python -m personax.train --config configs/emoji_infusion.py

One residual per cross-attention layer at the class word, "dog" itself, without a new
word; without the concept the model is the base. The attention maps of the frozen stream
take a second forward pass per step, and no backward pass.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "infusion"
    config.method_args = ConfigDict(
        {
            "frozen_maps": True,
            "train": "v",
            "vectors": 1,
            "delta_space": "value",
            "multi_piece": "all",
            "mask_norm": "mean",
            "min_snr": 0.0,
            "offset_noise": 0.0,
        }
    )
    config.concept.placeholder = ""
    config.concept.phrase = "{class_word}"
    config.prior.source = ""
    config.optimizer.learning_rate = 1e-2
    config.batch = 8
    return config

"""DreamBooth by LoRA (Hu et al. 2021) on the embedded base.

    python -m personax.train --config configs/emoji_lora.py

Rank 4 on every attention kernel; "<v1>" is an alias of a rare token.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "lora"
    config.method_args = ConfigDict(
        {
            "rank": 4,
            "alpha": 4.0,
            "targets": ("attention",),
            "words": False,
            "min_snr": 0.0,
            "offset_noise": 0.0,
        }
    )
    config.optimizer.learning_rate = 1e-3
    return config

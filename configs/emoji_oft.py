"""OFT (Qiu et al. 2023) on the embedded base.

    python -m personax.train --config configs/emoji_oft.py

Rotations in 4 blocks on every attention kernel; "<v1>" is an alias of a rare token.
COFT, which bounds the distance to the base: --config.method_args.eps 0.5.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "oft"
    config.method_args = ConfigDict(
        {"blocks": 4, "eps": 0.0, "min_snr": 0.0, "offset_noise": 0.0}
    )
    config.prior.weight = 1.0
    config.optimizer.learning_rate = 1e-3
    return config

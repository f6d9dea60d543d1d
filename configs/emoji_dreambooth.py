"""DreamBooth (Ruiz et al. 2022) on the embedded base.

    python -m personax.train --config configs/emoji_dreambooth.py

All 9,488,072 parameters of the UNet; "<v1>" is an alias of a rare token, which is not
trained. 38 MB on disk.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "dreambooth"
    config.method_args = ConfigDict(
        {
            "train": "unet",
            "text_encoder": False,
            "words": False,
            "min_snr": 0.0,
            "offset_noise": 0.0,
        }
    )
    config.prior.weight = 1.0
    config.optimizer.learning_rate = 1e-4
    return config

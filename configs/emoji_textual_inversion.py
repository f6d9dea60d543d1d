"""Textual Inversion (Gal et al. 2022) on the embedded base.

    python -m personax.train --config configs/emoji_textual_inversion.py

One embedding of 128 numbers, initialised with the class word; no regularisation set,
since the base is frozen. 0.6 KB on disk.
"""

from ml_collections import ConfigDict

from configs import emoji


def get_config() -> ConfigDict:
    config = emoji.get_config()
    config.method = "textual_inversion"
    config.method_args = ConfigDict({"min_snr": 0.0, "offset_noise": 0.0})
    config.concept.phrase = "{placeholder}"
    config.concept.initial = ""  # the class word
    config.prior.source = ""
    config.optimizer.learning_rate = 5e-3
    config.optimizer.weight_decay = 0.0
    config.batch = 8
    return config

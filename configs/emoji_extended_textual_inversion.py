"""Extended Textual Inversion (Voynov et al. 2023), P+, on the embedded base.

    python -m personax.train --config configs/emoji_extended_textual_inversion.py

A row of 128 numbers for each of the seven cross-attention layers, started from the
class word; no regularisation set, since nothing else can change. 4 KB on disk.
"""

from ml_collections import ConfigDict

from configs import emoji_textual_inversion


def get_config() -> ConfigDict:
    config = emoji_textual_inversion.get_config()
    config.method = "extended_textual_inversion"
    config.method_args.speak = ()  # the layers that are heard, () is all
    config.optimizer.learning_rate = 4e-3
    return config

"""Extended Textual Inversion (Voynov et al. 2023), P+, on the embedded base.

    python -m personax.train --config configs/emoji_extended_textual_inversion.py

An embedding of 128 numbers for each of the seven cross-attention layers, initialised
with the class word; no regularisation set, since the base is frozen. 4 KB on disk.
"""

from ml_collections import ConfigDict

from configs import emoji_textual_inversion


def get_config() -> ConfigDict:
    config = emoji_textual_inversion.get_config()
    config.method = "extended_textual_inversion"
    config.method_args.speak = ()  # the layers to apply, () for all
    config.optimizer.learning_rate = 4e-3
    return config

"""NeTI (Alaluf et al. 2023) on the embedded base.

    python -m personax.train --config configs/emoji_neti.py

A mapper of 202,566 parameters gives the word's embedding, of the class word's norm, at
each timestep and for each of the seven cross-attention layers; no regularisation set.
0.8 MB on disk.
"""

from ml_collections import ConfigDict

from configs import emoji_textual_inversion


def get_config() -> ConfigDict:
    config = emoji_textual_inversion.get_config()
    config.method = "neti"
    config.method_args.bypass = 0.2
    config.method_args.dropout = 0.5
    config.optimizer.learning_rate = 3e-3
    return config

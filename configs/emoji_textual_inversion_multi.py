"""Textual Inversion with several vectors on the embedded base.

    python -m personax.train --config configs/emoji_textual_inversion_multi.py

Two embeddings of 128 numbers, both initialised with the class word: V* is two tokens of
a prompt. Four at 5e-3 resemble the subject less and no longer follow "night" and
"purple". 1.1 KB on disk.
"""

from ml_collections import ConfigDict

from configs import emoji_textual_inversion


def get_config() -> ConfigDict:
    config = emoji_textual_inversion.get_config()
    config.concept.vectors = 2
    config.optimizer.learning_rate = 3e-3
    return config

"""ProSpect (Zhang et al. 2023) on the embedded base.

    python -m personax.train --config configs/emoji_prospect.py

Ten embeddings of 128 numbers, one for each tenth of the timesteps, initialised with the
class word; no regularisation set, since the base is frozen. 5 KB on disk.
"""

from ml_collections import ConfigDict

from configs import emoji_textual_inversion


def get_config() -> ConfigDict:
    config = emoji_textual_inversion.get_config()
    config.method = "prospect"
    config.method_args.stages = 10
    # The stages to apply, () for all: (7, 8, 9) transfers the layout, the rest uses the
    # class word.
    config.method_args.speak = ()
    config.optimizer.learning_rate = 1e-2
    return config

"""Extended Textual Inversion (Voynov et al. 2023), P+, on Stable Diffusion 1.5.

    python -m personax.train --config configs/sd15_extended_textual_inversion.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word toy

An embedding for each of the 16 cross-attention layers, initialised with the class word,
500 steps of batch 8 at 5e-3, the object templates. The paper's base is 1.4. 49 KB on
disk.
"""

from ml_collections import ConfigDict

from configs import sd15_textual_inversion


def get_config() -> ConfigDict:
    config = sd15_textual_inversion.get_config()
    config.method = "extended_textual_inversion"
    config.method_args.speak = ()  # the layers to apply, () for all
    config.optimizer.learning_rate = 5e-3
    config.optimizer.scale_by_batch = False
    config.batch = 8
    config.accumulate = 1
    config.steps = 500
    config.save_every = 100
    return config

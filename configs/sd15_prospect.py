"""ProSpect (Zhang et al. 2023) on Stable Diffusion 1.5; the paper's base is 1.4.

    python -m personax.train --config configs/sd15_prospect.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word toy

Ten embeddings initialised with the class word, 600 steps of batch 1 at 1e-4, the object
templates. 31 KB on disk.
"""

from ml_collections import ConfigDict

from configs import sd15_textual_inversion


def get_config() -> ConfigDict:
    config = sd15_textual_inversion.get_config()
    config.method = "prospect"
    config.method_args.stages = 10
    config.method_args.speak = ()  # the stages to apply, () for all
    config.optimizer.learning_rate = 1e-4
    config.accumulate = 1
    config.steps = 600
    config.save_every = 100
    return config

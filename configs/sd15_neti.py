"""NeTI (Alaluf et al. 2023) on Stable Diffusion 1.5; the paper's base is 1.4.

    python -m personax.train --config configs/sd15_neti.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word toy

A mapper of 563,616 parameters, 1,000 steps of batch 2 accumulated 4 times, at 1e-3
times these = 8e-3, the object templates; the text encoder runs 16 times a step, once
per layer. 2.3 MB on disk.
"""

from ml_collections import ConfigDict

from configs import sd15_textual_inversion


def get_config() -> ConfigDict:
    config = sd15_textual_inversion.get_config()
    config.method = "neti"
    config.method_args.bypass = 0.2
    config.method_args.dropout = 0.5
    config.optimizer.learning_rate = 1e-3
    config.batch = 2
    config.accumulate = 4
    config.steps = 1000
    config.save_every = 250
    return config

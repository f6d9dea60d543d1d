"""Textual Inversion (Gal et al. 2022) on Stable Diffusion 1.5, as diffusers' example.

    python -m personax.train --config configs/sd15_textual_inversion.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word toy

One embedding initialised with the class word, the 27 object templates
(--config.concept.prompt style for the 19 of styles), batch 1 accumulated 4 times, at
5e-4 times these = 2e-3, 3,000 steps. More vectors: --config.concept.vectors 4. 3 KB on
disk.
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "textual_inversion"
    config.concept.phrase = "{placeholder}"
    config.concept.prompt = "object"
    config.concept.initial = ""
    config.data.flip = True
    config.optimizer.learning_rate = 5e-4
    config.optimizer.scale_by_batch = True
    config.batch = 1
    config.accumulate = 4
    config.steps = 3000
    config.save_every = 500
    config.preview.guidance = 7.5
    return config

"""Perfusion (Tewel et al. 2023) on Stable Diffusion 1.5.

    python -m personax.train --config configs/sd15_perfusion.py \
        --config.base DIR --config.corpus CAPTIONS.txt \
        --config.concept.images FOLDER --config.concept.class_word cat

12,480 value parameters at 0.03 and an embedding of 768 at 0.006; with e*, C^-1 e* and
the class word's encoding 65 KB on disk in float32. The paper estimates C from 100,000
captions, one per line of the file here, and weights the loss by soft masks:
--config.concept.masks FOLDER. Its batch size and number of steps are not published.
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "perfusion"
    config.corpus = "world"  # a placeholder for a file of captions; see above
    config.concept.phrase = "{placeholder}"
    config.concept.prompt = "a photo of a {}"
    config.concept.initial = ""  # the class word
    config.optimizer.learning_rate = 3e-2
    config.optimizer.learning_rates.tokens = 6e-3
    config.optimizer.weight_decay = 0.0
    config.preview.guidance = 7.5
    return config

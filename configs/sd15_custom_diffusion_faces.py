"""Custom Diffusion for faces, by the released code's advice, on Stable Diffusion 1.5.

    python -m personax.train --config configs/sd15_custom_diffusion_faces.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word man

All of cross-attention (43,962,560 parameters), 750 steps at 5e-6 times the batch, no
augmentation; for 16 pictures or more.
"""

from ml_collections import ConfigDict

from configs import sd15_custom_diffusion


def get_config() -> ConfigDict:
    config = sd15_custom_diffusion.get_config()
    config.method_args.train = "cross_attention"
    config.concept.class_word = "man"
    config.data.augment = "none"
    config.optimizer.learning_rate = 5e-6
    config.steps = 750
    return config

"""Custom Diffusion (Kumari et al. 2023) on Stable Diffusion 1.5, one concept.

    python -m personax.train --config configs/sd15_custom_diffusion.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word dog

The paper's setting (sec. 4.1, app. E): 250 steps of batch 8, half of it regularisation,
at 1e-5 times the batch = 8e-5; AdamW; size augmentation with a mask. The 200
regularisation pictures are samples of the base; the paper retrieves them from LAION:
--config.prior.source retrieved --config.concept.prior_images LIST
--config.prior.clip DIR. Trains 19,169,280 parameters of K/V and one embedding, 77 MB.

The released code: --config.data.augment compvis (its CompVis scripts) or huggingface,
--config.method_args.mask_norm sum_over_mask. Ablations: configs/README.md.
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "custom_diffusion"
    config.method_args = ConfigDict(
        {"train": "kv", "rank": 0, "words": True, "mask_norm": "mean"}
    )
    config.data.augment = "paper"
    config.data.flip = True
    config.prior.source = "generated"
    config.optimizer.learning_rate = 1e-5
    config.optimizer.scale_by_batch = True
    config.optimizer.clip = 0.0
    config.batch = 4
    config.steps = 250
    return config

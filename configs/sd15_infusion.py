"""Infusion (Zeng et al. 2024) on Stable Diffusion 1.5.

    python -m personax.train --config configs/sd15_infusion.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word cat

The paper's learning rate and batch; it does not state the number of steps of its table,
which is the release's here (500, each of 4 accumulated batches of 4), as are the
templates, and pictures squashed to a square and mirrored. The release also uses
--config.method_args.frozen_maps=False --config.method_args.train kv
--config.method_args.mask_norm squared --config.concept.masks FOLDER
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "infusion"
    config.method_args = ConfigDict(
        {
            "frozen_maps": True,
            "train": "v",
            "vectors": 1,
            "delta_space": "value",
            "multi_piece": "all",
            "mask_norm": "mean",
        }
    )
    config.concept.placeholder = ""
    config.concept.phrase = "{class_word}"
    config.concept.prompt = "infusion"
    config.data.crop = "squash"
    config.data.flip = True
    config.optimizer.learning_rate = 1e-2
    config.batch = 4
    config.accumulate = 4
    config.steps = 500
    config.preview.guidance = 8.0
    config.preview.prompts = (
        "a photo of a {}",
        "a photo of a {} on the beach",
        "a photo of a {} wearing a crown",
    )
    return config

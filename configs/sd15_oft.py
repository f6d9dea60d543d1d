"""OFT (Qiu et al. 2023) on Stable Diffusion 1.5.

    python -m personax.train --config configs/sd15_oft.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word dog

Rotations in 4 blocks on every attention kernel (23,304,192 parameters, 93 MB), trained
like DreamBooth: "a photo of sks dog", batch 1 and as much regularisation, 2,000 steps
at 6e-5, 200 class pictures sampled from the base. COFT with the paper's bound on
|R - I|, which is very tight: --config.method_args.eps 6e-5.
"""

from ml_collections import ConfigDict

from configs import sd15_dreambooth


def get_config() -> ConfigDict:
    config = sd15_dreambooth.get_config()
    config.method = "oft"
    config.method_args = ConfigDict({"blocks": 4, "eps": 0.0})
    config.optimizer.learning_rate = 6e-5
    config.steps = 2000
    return config

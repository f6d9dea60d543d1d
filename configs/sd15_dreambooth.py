"""DreamBooth (Ruiz et al. 2022) on Stable Diffusion 1.5, as diffusers' example.

    python -m personax.train --config configs/sd15_dreambooth.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word dog

All 859,520,964 parameters of the UNet, prompt "a photo of sks dog"; batch 1 and as much
regularisation, 800 steps at 5e-6, 200 class pictures sampled from the base.
--config.method_args.text_encoder=True also trains the text encoder's 123,060,480, at
2e-6 with --config.optimizer.learning_rates.text_encoder=2e-6. 3.4 GB on disk; weights,
gradients and AdamW take 13 GiB.
"""

from ml_collections import ConfigDict

from configs import sd15


def get_config() -> ConfigDict:
    config = sd15.get_config()
    config.method = "dreambooth"
    config.method_args = ConfigDict({"text_encoder": False, "min_snr": 0.0})
    config.concept.placeholder = ""  # no new word: "sks" is in the vocabulary
    config.concept.phrase = "sks {class_word}"
    config.concept.prompt = "a photo of {}"
    config.prior.source = "generated"
    config.prior.guidance = 7.5
    config.prior.eta = 0.0
    config.optimizer.learning_rate = 5e-6
    config.batch = 1
    config.steps = 800
    config.preview.prompts = ("a photo of {}", "a photo of {} on the beach")
    config.preview.guidance = 7.5
    return config

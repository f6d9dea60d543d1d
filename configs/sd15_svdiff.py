"""SVDiff (Han et al. 2023) on Stable Diffusion 1.5.

    python -m personax.train --config configs/sd15_svdiff.py \
        --config.base DIR --config.concept.images FOLDER --config.concept.class_word dog

A shift of every singular value of the UNet (223,100 parameters, 1.0 MB) at 1e-3, of
biases and norms at 1e-6; "photo of a sks dog", batch 1 and as much regularisation, 500
steps, 200 class pictures sampled from the base. With the text encoder, as in the
unofficial release: --config.method_args.text_encoder=True. The decomposition takes
minutes at the start, and its factors take more memory than the UNet.
"""

from ml_collections import ConfigDict

from configs import sd15_dreambooth


def get_config() -> ConfigDict:
    config = sd15_dreambooth.get_config()
    config.method = "svdiff"
    config.method_args = ConfigDict({"vectors": True, "text_encoder": False})
    config.concept.prompt = "photo of a {}"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.learning_rates.vectors = 1e-6
    config.steps = 500
    config.preview.prompts = ("photo of a {}", "photo of a {} on the beach")
    return config

"""Shared settings of the configs of the embedded base; see common.py for every key."""

from ml_collections import ConfigDict

from configs import common

# Byte pairs that end no word of the embedded vocabulary; they serve as the rare tokens
# of Stable Diffusion's.
RARE = "fores+rpla+mbre"


def get_config() -> ConfigDict:
    config = common.get_config()
    config.concept.initial = RARE
    config.concept.prompt = "a photo of a {}"
    # Scenes of the base's training set whose captions name the class.
    config.prior.source = "world"
    config.prior.weight = 0.5
    config.optimizer.learning_rate = 4e-4
    config.batch = 4
    config.steps = 250
    config.preview.prompts = (
        "a photo of a {}",
        "a photo of a {} at night",
        "a photo of a {} on a purple background",
        "a photo of a {} with a mountain in the background",
        "a photo of a {} wearing a top hat",
    )
    return config

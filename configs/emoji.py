"""What the configs of the embedded base share; see common.py for every key."""

from ml_collections import ConfigDict

from configs import common

# Byte pairs that no word of the embedded vocabulary ends in: the part that the rare
# tokens play in Stable Diffusion's.
RARE = "fores+rpla+mbre"


def get_config() -> ConfigDict:
    config = common.get_config()
    config.concept.initial = RARE
    config.concept.prompt = "a photo of a {}"
    # Scenes of the world that the base comes from, with the class in their captions.
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

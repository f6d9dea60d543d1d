"""Two concepts in one model: ClassDiffusion on the embedded base, jointly.

    python -m personax.train --config configs/emoji_two_concepts.py

The list has the dog as <v1> and the cat as <v2>, each for half of the examples.
"""

from ml_collections import ConfigDict

from configs import emoji_class_diffusion


def get_config() -> ConfigDict:
    config = emoji_class_diffusion.get_config()
    config.concepts_list = "configs/emoji_two_concepts.json"
    config.steps = 500
    config.preview.prompts = (
        "a photo of a {}",
        "a photo of a {} at night",
        "a photo of a <v1> dog next to a <v2> cat",
    )
    return config

"""Concept-centric personalization (Cao et al. 2023) on the embedded base: animals.

    python -m personax.train --config configs/emoji_animals.py

Like emoji_people, on ten animals that the base has not seen, in place of AFHQ.
"""

from ml_collections import ConfigDict

from configs import emoji_people


def get_config() -> ConfigDict:
    config = emoji_people.get_config()
    config.concept.class_word = "animal face"
    config.stream.source = "portraits:animals"
    return config

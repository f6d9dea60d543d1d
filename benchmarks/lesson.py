"""A config of the embedded base for a subject, without sheets or validation."""

import importlib

from ml_collections import ConfigDict

from personax.data import emoji


def lesson(method: str, subject: str) -> ConfigDict:
    """configs/emoji_METHOD.py, to be taught the bundled subject."""
    config = importlib.import_module(f"configs.emoji_{method}").get_config()
    config.concept.images = subject
    config.concept.class_word = emoji.subjects()[subject].class_word
    config.preview.prompts, config.validation.every = (), 0
    return config

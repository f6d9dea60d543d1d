"""What a prompt of the emoji world asks for, in its classifier's words."""

import re

from personax.data import emoji


def asked(template: str) -> dict[str, str]:
    """{head: word} of a template whose subject is {}: accessory, place, style, tint.

    >>> asked("a photo of a red {} wearing a top hat")
    {'accessory': 'top-hat', 'tint': 'red'}
    """
    found = {}
    for name, worn in emoji.ACCESSORIES.items():
        if _says(template, worn.words):
            found["accessory"] = name
    for name in emoji.SCENES:
        if _says(template, name):
            found["place"] = name
    for name in emoji.COLOURS:
        if _says(template, f"on a {name} background"):
            found["place"] = name
        if f"{name} {{" in template:
            found["tint"] = name
    for name, word in emoji.STYLES.items():
        if _says(template, f"in {word} style"):
            found["style"] = name
    return found


def _says(template: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", template) is not None

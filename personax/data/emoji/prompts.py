"""Prompts in the captions' words: their attributes, and scenes that fit them."""

import re
from collections.abc import Sequence

import numpy as np

from personax.data.emoji.world import (
    ACCESSORIES,
    BASE_STYLES,
    COLOURS,
    DISTANCES,
    SCENES,
    STYLES,
    Scene,
    Sprite,
    Sprites,
    class_word,
)


def attributes(template: str) -> dict[str, str]:
    """{classifier head: word} that a prompt names: accessory, place, style, tint.

    The template has {} in place of the subject.

    >>> attributes("a photo of a red {} wearing a top hat")
    {'accessory': 'top-hat', 'tint': 'red'}
    """
    words = {}
    for name, accessory in ACCESSORIES.items():
        if _contains(template, accessory.words):
            words["accessory"] = name
    for name in SCENES:
        if _contains(template, name):
            words["place"] = name
    for name in COLOURS:
        if _contains(template, f"on a {name} background"):
            words["place"] = name
        if f"{name} {{" in template:
            words["tint"] = name
    for name, word in STYLES.items():
        if _contains(template, f"in {word} style"):
            words["style"] = name
    return words


def scene_for(
    template: str,
    subjects: Sequence[Sprite],
    sprites: Sprites,
    rng: np.random.Generator,
) -> Scene:
    """A random scene that fits a prompt about one or two subjects.

    A prompt with a style gets the subject's class in that style if such a sprite
    exists. A place that the prompt does not name is random. Raises ValueError for a
    second object that is no class of the world.
    """
    words, (subject, *others) = attributes(template), subjects
    if (subject[0], words.get("style")) in sprites:
        subject = (subject[0], words["style"])
    other = others[0] if others else None
    if not others and " next to a " in template:
        other = _named(template.partition(" next to a ")[2], sprites, rng)
    places = (*COLOURS, *SCENES)
    accessory = words.get("accessory")
    return Scene(
        subject,
        words.get("place") or str(rng.choice(places)),
        accessory=_random_style(accessory, sprites, rng) if accessory else None,
        other=other,
        colour=words.get("tint"),
        distance=None if other or accessory else _distance(template),
    )


def _contains(template: str, words: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(words)}(?!\w)", template) is not None


def _named(words: str, sprites: Sprites, rng: np.random.Generator) -> Sprite:
    """A sprite of the class with the longest word that `words` start with."""
    names = sorted({name for name, _ in sprites}, key=len, reverse=True)
    for name in names:
        if f"{words} ".startswith(f"{class_word(name)} "):
            return _random_style(name, sprites, rng)
    raise ValueError(f"The emoji world has no class {words!r}.")


def _random_style(name: str, sprites: Sprites, rng: np.random.Generator) -> Sprite:
    """The class in a random style, one of `BASE_STYLES` if available."""
    styles = [style for style in BASE_STYLES if (name, style) in sprites]
    styles = styles or [style for own, style in sprites if own == name]
    return (name, str(rng.choice(styles)))


def _distance(template: str) -> str | None:
    for name, leads in DISTANCES.items():
        if any(template.startswith(lead) for lead in leads):
            return name
    return None

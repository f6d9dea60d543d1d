"""The world of the embedded base: its captions, classes, scenes and renders.

The only module outside `personax.data` that imports `personax.data.emoji`.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from personax.core.images import Pixels
from personax.core.tree import nearest
from personax.data import emoji
from personax.data.emoji import prompts


def captions(count: int) -> list[str]:
    """The captions of the first `count` scenes of a fixed seed."""
    sprites = emoji.load_sprites()
    rngs = [np.random.default_rng((0, index)) for index in range(count)]
    scenes = [emoji.choose(rng, sprites) for rng in rngs]
    return [
        emoji.caption(scene, emoji.phrase(rng, scene))
        for rng, scene in zip(rngs, scenes, strict=True)
    ]


def classes_called(class_word: str) -> tuple[str, ...]:
    """The classes whose caption word is `class_word`.

    Raises ValueError, which lists the nearest words, if no class has it.
    """
    words = {name: emoji.class_word(name) for name in emoji.CLASSES}
    classes = tuple(name for name, word in words.items() if word == class_word)
    if not classes:
        raise ValueError(
            f"The emoji world has no class {class_word!r}; nearest: "
            f"{nearest(class_word, dict.fromkeys(words.values()))}."
        )
    return classes


def class_scenes(
    class_word: str, seed: int
) -> tuple[Callable[[int], str], Callable[[int], Pixels]]:
    """(caption, render) of a class's scenes, as functions of a scene's index.

    Every caption names the class; bundled subjects do not appear. Raises ValueError for
    a class that does not exist.
    """
    classes, sprites = classes_called(class_word), emoji.load_sprites()

    def choose(index: int) -> tuple[np.random.Generator, emoji.Scene, str]:
        rng = np.random.default_rng((seed, index))
        scene = emoji.choose(rng, sprites, classes=classes)
        wording = emoji.phrase(rng, scene)
        # Captions may also use a broader class, an accessory or the place alone.
        place = "included" if wording.place == "only" else wording.place
        wording = dataclasses.replace(wording, broader=None, subject=True, place=place)
        return rng, scene, emoji.caption(scene, wording)

    def render(index: int) -> Pixels:
        rng, scene, _ = choose(index)
        return emoji.render(rng, sprites, scene)

    return lambda index: choose(index)[2], render


def class_word(name: str) -> str:
    """The word that captions use for a class, such as "dog" for "dog-face"."""
    return emoji.class_word(name)


def prompt_attributes(template: str) -> dict[str, str]:
    """{classifier head: word} that a prompt with {} for its subject names."""
    return prompts.attributes(template)


def render_prompt(
    template: str, subjects: Sequence[str], rng: np.random.Generator
) -> Pixels:
    """A render of bundled subjects in a random scene that fits a prompt.

    Raises ValueError for a subject that is not bundled.
    """
    sprites = _sprites()
    chosen = [emoji.subject(name).sprite for name in subjects]
    scene = prompts.scene_for(template, chosen, sprites, rng)
    return emoji.render(rng, sprites, scene)


_sprites = functools.cache(emoji.load_sprites)

"""The embedded world: the one place where the library reaches the data of its base.

Everything outside `personax.data` that needs captions, scenes or renders of the world
which the embedded base was trained on asks here, so that another world replaces it in
one file.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from personax.core.images import Pixels
from personax.core.tree import nearest
from personax.data import emoji


def captions(count: int) -> list[str]:
    """Captions of `count` scenes, always the same."""
    sprites = emoji.load_sprites()
    rngs = [np.random.default_rng((0, index)) for index in range(count)]
    scenes = [emoji.choose(rng, sprites) for rng in rngs]
    return [
        emoji.caption(scene, emoji.phrase(rng, scene))
        for rng, scene in zip(rngs, scenes, strict=True)
    ]


def classes_called(class_word: str) -> tuple[str, ...]:
    """The world's classes that captions call by this word.

    Raises ValueError, naming the nearest words, where there is none.
    """
    words = {name: emoji.class_word(name) for name in emoji.CLASSES}
    classes = tuple(name for name, word in words.items() if word == class_word)
    if not classes:
        raise ValueError(
            f"The embedded world has no class {class_word!r}. Nearest: "
            f"{nearest(class_word, dict.fromkeys(words.values()))}."
        )
    return classes


def class_scenes(
    class_word: str, seed: int
) -> tuple[Callable[[int], str], Callable[[int], Pixels]]:
    """(caption, render) of scene `index` of a class, as functions of the index.

    Every caption names the class. Bundled subjects are in no scene. Raises what
    `classes_called` raises.
    """
    classes, sprites = classes_called(class_word), emoji.load_sprites()

    def choose(index: int) -> tuple[np.random.Generator, emoji.Scene, str]:
        rng = np.random.default_rng((seed, index))
        scene = emoji.choose(rng, sprites, classes=classes)
        wording = emoji.phrase(rng, scene)
        # The world also says "an animal", "wearing a crown" or only "at night".
        place = "said" if wording.place == "alone" else wording.place
        wording = dataclasses.replace(wording, broader=None, subject=True, place=place)
        return rng, scene, emoji.caption(scene, wording)

    def render(index: int) -> Pixels:
        rng, scene, _ = choose(index)
        return emoji.render(rng, sprites, scene)

    return lambda index: choose(index)[2], render

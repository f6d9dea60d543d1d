"""Portraits: one sprite of a set, large and centred, on any of the 19 places."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8

from personax.data.emoji.drawing import Frame, render
from personax.data.emoji.sampling import drawn_in, one
from personax.data.emoji.world import (
    ACCESSORIES,
    BASE_STYLES,
    COLOURS,
    SCENES,
    STYLES,
    Scene,
    Sprites,
)

# Classes that the base has not seen: people stand for FFHQ, animals for AFHQ.
PORTRAITS = {
    "people": ("baby", "boy", "girl", "man", "woman", "old-man", "old-woman"),
    "animals": (
        "hamster",
        "polar-bear",
        "boar",
        "horse-face",
        "dragon-face",
        "elephant",
        "duck",
        "eagle",
        "parrot",
        "turtle",
    ),
}
PLACES = (*COLOURS, *SCENES)

# 3/4 to nearly all of the picture's side; a hat still fits above.
CLOSE = Frame(48, 60, 0.5, -1, worn=48)


def portrait_scene(
    rng: np.random.Generator,
    sprites: Sprites,
    *,
    classes: Sequence[str] = PORTRAITS["people"],
    styles: Sequence[str] = tuple(STYLES),
    places: Sequence[str] = PLACES,
    accessories: Sequence[str | None] = (None,),
    colours: Sequence[str | None] = (None,),
) -> Scene:
    """A scene of one sprite, with class, style, place and the rest drawn uniformly.

    A class is drawn in those of `styles` that have it, an accessory (None: without) in
    the base's styles. Raises ValueError for a class or a style without sprites, and
    what `Scene` raises.
    """
    drawn = drawn_in(sprites, classes, styles, set())
    name = one(rng, tuple(drawn))
    subject = (name, one(rng, drawn[name]))
    place, item, colour = one(rng, places), one(rng, accessories), one(rng, colours)
    worn = None
    if item is not None:
        if item in ACCESSORIES:
            styles = drawn_in(sprites, (item,), BASE_STYLES, set())[item]
        worn = (item, one(rng, styles))
    return Scene(subject, place, accessory=worn, colour=colour)


def portrait(
    rng: np.random.Generator, sprites: Sprites, scene: Scene
) -> UInt8[np.ndarray, "32 32 3"]:
    """The scene's picture, its subject large and nearly centred."""
    return render(rng, sprites, scene, CLOSE)

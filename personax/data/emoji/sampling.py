"""A seeded stream of captioned pictures: sample a scene, render it, caption it."""

from collections.abc import Collection, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from personax.core.tree import nearest
from personax.data.emoji.drawing import render
from personax.data.emoji.world import (
    ACCESSORIES,
    BASE_STYLES,
    CLASSES,
    COLOURS,
    DISTANCES,
    GROUPS,
    HEADS,
    HELD_OUT,
    SCENES,
    STYLES,
    TINTS,
    Scene,
    Sprites,
    Wording,
    class_word,
)

Item = TypeVar("Item")

# A place is a plain colour in 10 of 28 scenes.
_PLACES = (*COLOURS, *SCENES, *SCENES)


def scene(
    seed: int, index: int, sprites: Sprites, **options
) -> tuple[UInt8[np.ndarray, "32 32 3"], str]:
    """(picture, caption) number `index` of the endless stream `seed`.

    `options` are those of `choose`.
    """
    return sample(np.random.default_rng((seed, index)), sprites, **options)


def sample(
    rng: np.random.Generator, sprites: Sprites, **options
) -> tuple[UInt8[np.ndarray, "32 32 3"], str]:
    """(picture, caption) of the base's training distribution.

    `options` are those of `choose`.
    """
    scene = choose(rng, sprites, **options)
    text = caption(scene, phrase(rng, scene))
    return render(rng, sprites, scene), text


def choose(
    rng: np.random.Generator,
    sprites: Sprites,
    *,
    held_out: bool = False,
    classes: Sequence[str] = CLASSES,
    styles: Sequence[str] = BASE_STYLES,
) -> Scene:
    """A random scene of the base's training distribution.

    Subject and neighbour are drawn uniformly from `classes`, in those of `styles` that
    have them; the subjects to personalise are excluded unless `held_out`. Accessories
    are in the base's styles. Raises ValueError for a class or a style without sprites.
    """
    drawn = drawn_in(sprites, classes, styles, set() if held_out else HELD_OUT)
    name = one(rng, tuple(drawn))
    subject = (name, one(rng, drawn[name]))
    place = one(rng, _PLACES)
    accessory = other = colour = distance = None
    if rng.random() < 0.08:
        colour = one(rng, TINTS)
    branch = rng.random()
    if name in HEADS and branch < 0.35:
        worn = drawn_in(sprites, tuple(ACCESSORIES), BASE_STYLES, set())
        item = one(rng, tuple(worn))
        accessory = (item, one(rng, worn[item]))
    elif branch > 0.85:
        neighbour = one(rng, tuple(drawn))
        other = (neighbour, one(rng, drawn[neighbour]))
    elif branch > 0.77:
        distance = one(rng, tuple(DISTANCES))
    return Scene(subject, place, accessory, other, colour, distance)


def phrase(rng: np.random.Generator, scene: Scene) -> Wording:
    """A random wording for `scene`, with the base's training frequencies."""
    lead = one(
        rng, DISTANCES.get(scene.distance or "", ("", "a photo of ", "a picture of "))
    )
    name = scene.subject[0]
    broader = GROUPS.get(name) if rng.random() < 0.08 else None
    if broader == "animal" and name in HEADS and rng.random() < 0.5:
        broader = "animal face"
    subject = scene.accessory is None or rng.random() >= 0.12
    place = "omitted"
    if rng.random() < 0.8:
        place = "only" if rng.random() < 0.02 else "included"
    return Wording(
        lead=lead,
        broader=broader,
        an=rng.random() < 0.5,
        subject=subject,
        style=subject and rng.random() < 0.35,
        place=place,
    )


def caption(scene: Scene, wording: Wording | None = None) -> str:
    """The caption of `scene`; by default it names everything but the style.

    >>> caption(Scene(("dog-face", "noto"), "at night", accessory=("crown", "noto")))
    'a photo of a dog wearing a crown at night'
    """
    if wording is None:
        wording = Wording(DISTANCES[scene.distance][0]) if scene.distance else Wording()
    plain = scene.place in COLOURS
    where = f"on a {scene.place} background" if plain else scene.place
    if wording.place == "only":
        return where
    parts = []
    if wording.subject:
        noun = wording.broader or class_word(scene.subject[0])
        noun = f"{scene.colour} {noun}" if scene.colour else noun
        article = "an" if wording.an and noun[0] in "aeiou" else "a"
        parts.append(f"{wording.lead}{article} {noun}")
    if scene.accessory:
        parts.append(ACCESSORIES[scene.accessory[0]].words)
    if scene.other:
        # Never "an", as in the base's training captions.
        parts.append(f"next to a {class_word(scene.other[0])}")
    if wording.style:
        parts.append(f"in {STYLES[scene.subject[1]]} style")
    if wording.place == "included":
        parts.append(where)
    return " ".join(parts)


def drawn_in(
    sprites: Sprites,
    classes: Sequence[str],
    styles: Sequence[str],
    excluded: Collection[tuple[str, str]],
) -> dict[str, tuple[str, ...]]:
    """{class: its available styles}; classes without one are absent.

    Raises ValueError for an unknown class or style, and where nothing is left.
    """
    for style in styles:
        if style not in STYLES:
            raise ValueError(
                f"Unknown style {style!r}; expected one of {', '.join(STYLES)}."
            )
    available = {}
    for name in classes:
        pairs = [(name, style) for style in styles]
        drawn = tuple(p[1] for p in pairs if p in sprites and p not in excluded)
        if drawn:
            available[name] = drawn
        elif not any((name, style) in sprites for style in STYLES):
            near = nearest(name, dict.fromkeys(known for known, _ in sprites))
            raise ValueError(f"Unknown class {name!r}; nearest: {near}.")
    if not available:
        raise ValueError(
            f"No class of {', '.join(classes)} is drawn in {', '.join(styles)}, except "
            "by the held-out subjects."
        )
    return available


def one(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[int(rng.integers(len(items)))]

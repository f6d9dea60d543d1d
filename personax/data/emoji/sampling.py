"""A seeded stream of captioned pictures: choose a scene, draw it, say it."""

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

    It depends on nothing else, so a position in the data is one integer. `options` are
    those of `choose`.
    """
    return sample(np.random.default_rng((seed, index)), sprites, **options)


def sample(
    rng: np.random.Generator, sprites: Sprites, **options
) -> tuple[UInt8[np.ndarray, "32 32 3"], str]:
    """(picture, caption) as the base saw them; `options` are those of `choose`."""
    chosen = choose(rng, sprites, **options)
    words = caption(chosen, phrase(rng, chosen))
    return render(rng, sprites, chosen), words


def choose(
    rng: np.random.Generator,
    sprites: Sprites,
    *,
    held_out: bool = False,
    classes: Sequence[str] = CLASSES,
    styles: Sequence[str] = BASE_STYLES,
) -> Scene:
    """A random scene of the world that the base was trained on.

    Subject and neighbour are of `classes`, uniformly, in those of `styles` that draw
    them; the subjects to personalise are left out unless `held_out`. Accessories keep
    to the base's styles. Raises ValueError for a class or a style without sprites.
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
    """A random way to say `scene`, with the base's training frequencies."""
    lead = one(rng, DISTANCES.get(scene.distance, ("", "a photo of ", "a picture of ")))
    name = scene.subject[0]
    broader = GROUPS.get(name) if rng.random() < 0.08 else None
    if broader == "animal" and name in HEADS and rng.random() < 0.5:
        broader = "animal face"
    subject = scene.accessory is None or rng.random() >= 0.12
    place = "unsaid"
    if rng.random() < 0.8:
        place = "alone" if rng.random() < 0.02 else "said"
    return Wording(
        lead=lead,
        broader=broader,
        an=rng.random() < 0.5,
        subject=subject,
        style=subject and rng.random() < 0.35,
        place=place,
    )


def caption(scene: Scene, wording: Wording | None = None) -> str:
    """The caption of `scene`; by default it says all that is known but the style.

    >>> caption(Scene(("dog-face", "noto"), "at night", accessory=("crown", "noto")))
    'a photo of a dog wearing a crown at night'
    """
    if wording is None:
        wording = Wording(DISTANCES[scene.distance][0]) if scene.distance else Wording()
    plain = scene.place in COLOURS
    where = f"on a {scene.place} background" if plain else scene.place
    if wording.place == "alone":
        return where
    said = []
    if wording.subject:
        noun = wording.broader or class_word(scene.subject[0])
        noun = f"{scene.colour} {noun}" if scene.colour else noun
        article = "an" if wording.an and noun[0] in "aeiou" else "a"
        said.append(f"{wording.lead}{article} {noun}")
    if scene.accessory:
        said.append(ACCESSORIES[scene.accessory[0]].words)
    if scene.other:
        # Never "an": that is how the base learned it.
        said.append(f"next to a {class_word(scene.other[0])}")
    if wording.style:
        said.append(f"in {STYLES[scene.subject[1]]} style")
    if wording.place == "said":
        said.append(where)
    return " ".join(said)


def drawn_in(
    sprites: Sprites,
    classes: Sequence[str],
    styles: Sequence[str],
    left_out: Collection[tuple[str, str]],
) -> dict[str, tuple[str, ...]]:
    """{class: the styles that may be drawn}; classes without one are absent."""
    for style in styles:
        if style not in STYLES:
            raise ValueError(
                f"There is no style {style!r}; there are {', '.join(STYLES)}."
            )
    found = {}
    for name in classes:
        pairs = [(name, style) for style in styles]
        kept = tuple(p[1] for p in pairs if p in sprites and p not in left_out)
        if kept:
            found[name] = kept
        elif not any((name, style) in sprites for style in STYLES):
            near = nearest(name, dict.fromkeys(known for known, _ in sprites))
            raise ValueError(f"There is no class {name!r}. Nearest: {near}.")
    if not found:
        raise ValueError(
            f"No class of {', '.join(classes)} is drawn in {', '.join(styles)}, except "
            "by the held-out subjects."
        )
    return found


def one(rng: np.random.Generator, items: Sequence[Item]) -> Item:
    return items[rng.integers(len(items))]

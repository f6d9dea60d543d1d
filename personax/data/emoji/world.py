"""The vocabulary of the emoji world: words, sprites, scenes and subjects."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8

from personax.core.tree import nearest

Sprite = tuple[str, str]  # (class, style): ("dog-face", "emojione")
Sprites = Mapping[Sprite, UInt8[np.ndarray, "64 64 4"]]  # RGBA
Colour = tuple[int, int, int]

ASSETS = pathlib.Path(__file__).parents[2] / "assets" / "emoji"

# Sprite set -> the word for it in captions. The base knows the first three.
STYLES = {
    "noto": "noto",
    "twemoji": "tweet",
    "emojione": "joy",
    "noto-v1": "blob",
    "fluent-emoji": "glossy",
    "fluent-emoji-flat": "flat",
    "fxemoji": "firefox",
}
BASE_STYLES = ("noto", "twemoji", "emojione")

# The subjects to personalise; no network in the package was trained on them.
HELD_OUT: frozenset[Sprite] = frozenset(
    {
        ("dog-face", "emojione"),
        ("cat-face", "emojione"),
        ("fox", "noto"),
        ("bear", "noto-v1"),
        ("panda", "twemoji"),
        ("rabbit-face", "fluent-emoji"),
        ("robot", "noto"),
        ("penguin", "noto"),
        ("backpack", "noto"),
        ("guitar", "emojione"),
        ("teddy-bear", "twemoji"),
        ("sunflower", "noto"),
    }
)

ANIMALS = (
    "dog-face",
    "cat-face",
    "mouse-face",
    "rabbit-face",
    "fox",
    "bear",
    "panda",
    "koala",
    "tiger-face",
    "lion",
    "cow-face",
    "pig-face",
    "frog",
    "monkey-face",
    "chicken",
    "penguin",
    "unicorn",
    "fish",
)
SMILEYS = (
    "grinning-face",
    "crying-face",
    "angry-face",
    "winking-face",
    "sleeping-face",
)
BEINGS = ("robot", "alien", "ghost", "teddy-bear")
FOOD = (
    "red-apple",
    "banana",
    "strawberry",
    "watermelon",
    "pizza",
    "hamburger",
    "doughnut",
)
VEHICLES = ("automobile", "rocket", "sailboat")
THINGS = (
    "castle",
    "deciduous-tree",
    "cactus",
    "sunflower",
    "mushroom",
    "guitar",
    "soccer-ball",
    "alarm-clock",
    "backpack",
    "balloon",
    "star",
)
CLASSES = ANIMALS + SMILEYS + BEINGS + FOOD + VEHICLES + THINGS  # the base knows these
HEADS = frozenset(ANIMALS + SMILEYS + BEINGS) - {"fish"}  # can wear an accessory

# A class -> the broader word that replaces it in some captions.
GROUPS = {
    **dict.fromkeys(ANIMALS, "animal"),
    **dict.fromkeys(SMILEYS, "face"),
    **dict.fromkeys(FOOD, "food"),
    **dict.fromkeys(VEHICLES, "vehicle"),
    **dict.fromkeys(("teddy-bear", "robot", "balloon"), "toy"),
    **dict.fromkeys(("guitar", "soccer-ball", "alarm-clock", "backpack"), "object"),
    "castle": "building",
    "deciduous-tree": "tree",
    "sunflower": "flower",
}

# Classes that are an expression: "crying face" keeps the word "face", "dog" does not.
_EXPRESSIONS = frozenset(
    {
        *SMILEYS,
        "astonished-face",
        "beaming-face-with-smiling-eyes",
        "nerd-face",
        "smiling-face-with-sunglasses",
        "thinking-face",
    }
)


class Accessory(NamedTuple):
    """An accessory's words, and its size and vertical offset in head heights."""

    words: str
    size: float
    offset: float


ACCESSORIES = {
    "headphone": Accessory("wearing a headphone", 0.55, -0.18),
    "crown": Accessory("wearing a crown", 0.5, -0.42),
    "top-hat": Accessory("wearing a top hat", 0.55, -0.46),
    "graduation-cap": Accessory("wearing a graduation cap", 0.6, -0.42),
    "glasses": Accessory("wearing glasses", 0.6, 0.0),
    "sunglasses": Accessory("wearing sunglasses", 0.6, 0.0),
    "billed-cap": Accessory("wearing a cap", 0.6, -0.4),
}

COLOURS: dict[str, Colour] = {
    "red": (214, 60, 50),
    "blue": (70, 110, 220),
    "green": (90, 170, 90),
    "yellow": (240, 210, 90),
    "purple": (150, 90, 190),
    "pink": (240, 160, 190),
    "orange": (240, 150, 60),
    "white": (245, 245, 245),
    "gray": (150, 150, 150),
    "black": (25, 25, 30),
}
TINTS = tuple(c for c in COLOURS if c not in ("white", "gray", "black"))


class Land(NamedTuple):
    """The colours of a place, and its horizon as a share of the height from the top."""

    sky: Colour
    ground: Colour
    horizon: float


SCENES = {
    "on the beach": Land((120, 190, 250), (235, 210, 140), 0.6),
    "on the grass": Land((150, 200, 250), (90, 170, 70), 0.55),
    "in the snow": Land((190, 215, 240), (250, 250, 255), 0.5),
    "at night": Land((15, 15, 50), (40, 40, 60), 0.7),
    "in the desert": Land((250, 190, 120), (220, 150, 80), 0.55),
    "in the city": Land((190, 205, 220), (110, 110, 115), 0.75),
    "in the jungle": Land((40, 110, 60), (30, 80, 35), 0.7),
    "under the sea": Land((30, 110, 190), (20, 60, 130), 0.6),
    "with a mountain in the background": Land((170, 205, 245), (110, 160, 90), 0.7),
}

# The subject's distance -> the beginnings of captions for it.
DISTANCES = {
    "near": tuple(
        f"{how} {what} of "
        for how in ("zoomed in", "close up")
        for what in ("photo", "picture")
    ),
    "far": tuple(
        f"{how} {what} of "
        for how in ("a far away", "very small")
        for what in ("photo", "picture")
    ),
}


@dataclasses.dataclass(frozen=True)
class Scene:
    """The content of a picture; `render` samples everything else.

    `place` is a colour or one of `SCENES`. At most one of accessory, other and distance
    is set. Raises ValueError for an unknown word, with the nearest ones.
    """

    subject: Sprite
    place: str
    accessory: Sprite | None = None
    other: Sprite | None = None
    colour: str | None = None
    distance: str | None = None

    def __post_init__(self):
        _expect("place", self.place, (*SCENES, *COLOURS))
        _expect("accessory", self.accessory and self.accessory[0], ACCESSORIES)
        _expect("colour", self.colour, COLOURS)
        _expect("distance", self.distance, DISTANCES)
        if sum(map(bool, (self.accessory, self.other, self.distance))) > 1:
            raise ValueError(
                "A scene has one of accessory, other and distance, not several."
            )


@dataclasses.dataclass(frozen=True)
class Wording:
    """What a caption includes of its scene, and how.

    `broader` replaces the class word ("an animal"); `an` is the article before a vowel;
    without `subject` the caption starts at the accessory ("wearing a crown"); with
    `place` "only" it is the place alone.
    """

    lead: str = "a photo of "
    broader: str | None = None
    an: bool = True
    subject: bool = True
    style: bool = False
    place: Literal["included", "omitted", "only"] = "included"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A bundled subject: 5 pictures of a held-out sprite, one for each place."""

    name: str
    class_word: str
    sprite: Sprite
    kind: Literal["live", "object"]
    places: tuple[str, ...]
    images: tuple[pathlib.Path, ...]


def load_sprites(path: pathlib.Path = ASSETS / "sprites.npz") -> dict[Sprite, Any]:
    """{(class, style): uint8 [64, 64, 4]}: 929 RGBA sprites of 147 classes."""
    with np.load(path) as file:
        pixels, names = file["rgba"], file["names"]
    keys = (str(name).split("|") for name in names)
    return {
        (name, style): sprite
        for (name, style), sprite in zip(keys, pixels, strict=True)
    }


def class_word(name: str) -> str:
    """The caption's word for a class: "dog" for dog-face, but "crying face"."""
    word = name if name in _EXPRESSIONS else name.removesuffix("-face")
    return word.replace("-", " ")


def subjects() -> dict[str, Subject]:
    """{name: Subject} of the 12 bundled subjects."""
    folder = ASSETS / "subjects"
    table = json.loads((folder / "subjects.json").read_text())
    return {
        name: Subject(
            name=name,
            class_word=row["class_word"],
            sprite=tuple(row["sprite"].split("|")),
            kind=row["kind"],
            places=tuple(row["places"]),
            images=tuple(sorted((folder / name).glob("*.png"))),
        )
        for name, row in table.items()
    }


def subject(name: str) -> Subject:
    """The bundled subject of this name. Raises ValueError listing them all."""
    bundled = subjects()
    if name not in bundled:
        raise ValueError(
            f"Unknown bundled subject {name!r}; expected one of {', '.join(bundled)}."
        )
    return bundled[name]


def _expect(what: str, word: str | None, known) -> None:
    if word is not None and word not in known:
        near = nearest(word, known)
        raise ValueError(f"Unknown {what} {word!r}; nearest: {near}.")

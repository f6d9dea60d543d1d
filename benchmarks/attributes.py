"""What portraits are prompted for, and in how many pictures it is there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from personax.data import emoji
from personax.loading import Clip
from personax.metrics import clip
from personax.metrics.classifier import Classifier, classify

Pictures = UInt8[np.ndarray, "n 32 32 3"]


class Attribute(NamedTuple):
    """Something that a prompt adds to a portrait."""

    head: str  # of the classifier: accessory, place, tint
    word: str  # what it should say
    control: str  # the words alone, for a guidance of its own
    joint: str  # the words with the concept's, which stand at {}


def _worn(name: str) -> Attribute:
    words = emoji.ACCESSORIES[name].words
    return Attribute("accessory", name, words, f"a photo of a {{}} {words}")


def _place(name: str) -> Attribute:
    where = f"on a {name} background" if name in emoji.COLOURS else name
    return Attribute("place", name, where, f"a photo of a {{}} {where}")


def _tint(name: str) -> Attribute:
    return Attribute("tint", name, f"a photo of a {name}", f"a photo of a {name} {{}}")


ATTRIBUTES = (
    *map(_worn, ("glasses", "sunglasses", "crown", "top-hat", "billed-cap")),
    *map(_place, ("blue", "red", "at night")),
    *map(_tint, ("red", "green")),
)
HEADS = ("accessory", "place", "tint")
# What the base has instead of a word for them.
NOUNS = {"people": "face", "animals": "animal face"}


class Share(NamedTuple):
    """Of the pictures of one attribute or several, each from 0 to 1."""

    shown: float  # the attribute, by the classifier
    clip: float  # the attribute, by the embedded CLIP without training
    member: float  # someone of the set, by the classifier
    both: float  # attribute and someone of the set, by the classifier


def renders(sprites, which: str, count: int, seed: int, asked: Attribute | None = None):
    """As many portraits of a set, with the attribute where one is asked."""
    options = {}
    if asked is not None:
        names = {"accessory": "accessories", "place": "places", "tint": "colours"}
        options = {names[asked.head]: (asked.word,)}
    found = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        scene = emoji.portrait_scene(
            rng, sprites, classes=emoji.PORTRAITS[which], **options
        )
        found.append(emoji.portrait(rng, sprites, scene))
    return np.stack(found)


def share(
    judge: Classifier, eye: Clip, which: str, asked: Attribute, pixels: Pictures
) -> Share:
    """In how many of the pictures that were asked for an attribute it is there."""
    shown = np.array([w == asked.word for w in classify(judge, pixels)[asked.head]])
    member = members(judge, which, pixels)
    words, questions = _questions(judge, asked.head, NOUNS[which])
    said = clip.zero_shot(eye, pixels, questions)
    zero_shot = [words[i] == asked.word for i in said]
    parts = (shown, zero_shot, member, shown & member)
    return Share(*(round(float(np.mean(part)), 4) for part in parts))


def members(judge: Classifier, which: str, pixels: Pictures) -> Bool[np.ndarray, " n"]:
    """Which pictures show someone of the set."""
    return np.isin(classify(judge, pixels)["class"], emoji.PORTRAITS[which])


def mean(shares: Sequence[Share]) -> Share:
    return Share(
        *(round(float(np.mean(part)), 4) for part in zip(*shares, strict=True))
    )


def _questions(judge: Classifier, head: str, noun: str) -> tuple[list[str], list[str]]:
    """(the words of a head, a caption with each)."""
    words = list(judge.heads[head])
    make = {"accessory": _worn, "place": _place, "tint": _tint}[head]
    plain = f"a photo of a {noun}"
    return words, [
        plain if word == "none" else make(word).joint.format(noun) for word in words
    ]

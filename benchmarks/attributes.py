"""Attributes of portraits, and the share of pictures that show them."""

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
    """An attribute that a prompt adds to a portrait."""

    head: str  # of the classifier: accessory, place, tint
    word: str  # its class for that head
    control: str  # prompt of the attribute alone, for its own guidance term
    joint: str  # prompt with the concept's phrase at {}


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
# The base's class word for each set.
NOUNS = {"people": "face", "animals": "animal face"}


class Share(NamedTuple):
    """Shares of pictures, from 0 to 1."""

    shown: float  # the attribute, by the classifier
    clip: float  # the attribute, by zero-shot classification with the embedded CLIP
    member: float  # a member of the set, by the classifier
    both: float  # the attribute on a member of the set, by the classifier


def renders(
    sprites, which: str, count: int, seed: int, attribute: Attribute | None = None
) -> Pictures:
    """`count` portraits of a set, with the attribute if one is given."""
    options = {}
    if attribute is not None:
        names = {"accessory": "accessories", "place": "places", "tint": "colours"}
        options = {names[attribute.head]: (attribute.word,)}
    portraits = []
    for i in range(count):
        rng = np.random.default_rng((seed, i))
        scene = emoji.portrait_scene(
            rng, sprites, classes=emoji.PORTRAITS[which], **options
        )
        portraits.append(emoji.portrait(rng, sprites, scene))
    return np.stack(portraits)


def share(
    classifier: Classifier,
    network: Clip,
    which: str,
    attribute: Attribute,
    pixels: Pictures,
) -> Share:
    """Shares over pictures that were prompted with the attribute."""
    predicted = classify(classifier, pixels)[attribute.head]
    shown = np.array([word == attribute.word for word in predicted])
    member = members(classifier, which, pixels)
    words, captions = _captions(classifier, attribute.head, NOUNS[which])
    cosines = clip.of_images(network, pixels) @ clip.of_texts(network, captions).T
    zero_shot = [words[i] == attribute.word for i in cosines.argmax(axis=1)]
    parts = (shown, zero_shot, member, shown & member)
    return Share(*(round(float(np.mean(part)), 4) for part in parts))


def members(
    classifier: Classifier, which: str, pixels: Pictures
) -> Bool[np.ndarray, " n"]:
    """Which pictures show a member of the set."""
    return np.isin(classify(classifier, pixels)["class"], emoji.PORTRAITS[which])


def mean(shares: Sequence[Share]) -> Share:
    return Share(
        *(round(float(np.mean(part)), 4) for part in zip(*shares, strict=True))
    )


def _captions(
    classifier: Classifier, head: str, noun: str
) -> tuple[list[str], list[str]]:
    """(the classes of a head, a caption for each)."""
    words = list(classifier.heads[head])
    make = {"accessory": _worn, "place": _place, "tint": _tint}[head]
    plain = f"a photo of a {noun}"
    return words, [
        plain if word == "none" else make(word).joint.format(noun) for word in words
    ]

"""The attribute ratio of known labels, and of the embedded classifier's."""

import numpy as np
import pytest

from personax.data import emoji
from personax.metrics.attributes import attribute_ratio
from personax.metrics.classifier import classify, load_classifier


def test_a_picture_counts_if_its_label_is_the_word():
    labels = ("hat", "none", "top-hat", "hat")
    assert attribute_ratio(labels, "hat").tolist() == [1, 0, 0, 1]
    expected = ("hat", "none", "hat", "glasses")
    assert attribute_ratio(labels, expected).tolist() == [1, 1, 0, 0]


def test_a_picture_may_have_several_labels():
    labels = ({"hat", "smile"}, set(), ("smile",), ["hat"])
    assert attribute_ratio(labels, "hat").tolist() == [1, 0, 0, 1]


def test_the_embedded_classifier_finds_accessories():
    sprites, classifier = emoji.load_sprites(), load_classifier()
    pictures, worn = [], ["glasses", "crown"] * 8
    for i, item in enumerate(worn):
        rng = np.random.default_rng((9, i))
        options = {"classes": emoji.PORTRAITS["people"], "accessories": (item,)}
        scene = emoji.portrait_scene(rng, sprites, **options)
        pictures.append(emoji.portrait(rng, sprites, scene))
    labels = classify(classifier, pictures)["accessory"]
    assert attribute_ratio(labels, worn).mean() > 0.8
    assert attribute_ratio(labels, worn[::-1]).mean() < 0.2


def test_invalid_counts_are_refused():
    with pytest.raises(ValueError, match="requires pictures"):
        attribute_ratio((), "hat")
    with pytest.raises(ValueError, match="3 expected words for 4 pictures"):
        attribute_ratio(tuple("abcd"), ("a", "b", "c"))

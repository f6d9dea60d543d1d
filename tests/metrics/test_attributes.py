"""The attribute ratio with judges that are known, and with the shipped classifier."""

import numpy as np
import pytest

from personax.data import emoji
from personax.metrics.attributes import attribute_ratio
from personax.metrics.classifier import classify, load_classifier

PICTURES = np.zeros((4, 8, 8, 3), np.uint8)


def says(*words):
    return lambda pixels: words


def test_a_picture_counts_where_the_judge_says_the_word():
    judge = says("hat", "none", "top-hat", "hat")
    assert attribute_ratio(judge, PICTURES, "hat").tolist() == [1, 0, 0, 1]
    each = ("hat", "none", "hat", "glasses")
    assert attribute_ratio(judge, list(PICTURES), each).tolist() == [1, 1, 0, 0]


def test_a_judge_may_see_several_attributes():
    judge = says({"hat", "smile"}, set(), ("smile",), ["hat"])
    assert attribute_ratio(judge, PICTURES, "hat").tolist() == [1, 0, 0, 1]


def test_the_shipped_classifier_is_a_judge():
    sprites, classifier = emoji.load_sprites(), load_classifier()
    pictures, worn = [], ["glasses", "crown"] * 8
    for i, item in enumerate(worn):
        rng = np.random.default_rng((9, i))
        options = {"classes": emoji.PORTRAITS["people"], "accessories": (item,)}
        scene = emoji.portrait_scene(rng, sprites, **options)
        pictures.append(emoji.portrait(rng, sprites, scene))

    def judge(pixels):
        return classify(classifier, pixels)["accessory"]

    assert attribute_ratio(judge, pictures, worn).mean() > 0.8
    assert attribute_ratio(judge, pictures, worn[::-1]).mean() < 0.2


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match="needs pictures, and there are none"):
        attribute_ratio(says(), PICTURES[:0], "hat")
    with pytest.raises(ValueError, match="3 words are wanted in 4 pictures"):
        attribute_ratio(says(*"abcd"), PICTURES, ("a", "b", "c"))
    with pytest.raises(ValueError, match="judge says 2 words of 4 pictures"):
        attribute_ratio(says("a", "b"), PICTURES, "a")

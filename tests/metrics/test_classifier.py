"""The shipped classifier on renders that it has not seen, and how it is loaded."""

import json

import numpy as np
import pytest

from personax.data import emoji
from personax.loading import embedded
from personax.metrics.classifier import (
    NONE,
    classify,
    load_classifier,
    probabilities,
)

COUNT = 256
# Its README has what it reaches on 1,000 renders; of fewer, chance takes some more.
CLASS, PLACE, WORN, STYLE, TINT, PORTRAIT = 0.78, 0.95, 0.9, 0.6, 0.9, 0.9


@pytest.fixture(scope="module")
def judge():
    return load_classifier()


@pytest.fixture(scope="module")
def sprites():
    return emoji.load_sprites()


@pytest.fixture(scope="module")
def scenes(sprites):
    """(pictures, their scenes) of the base's world, by a seed of the tests' own."""
    drawn = []
    for i in range(COUNT):
        rng = np.random.default_rng((77, i))
        scene = emoji.choose(rng, sprites)
        drawn.append((emoji.render(rng, sprites, scene), scene))
    pictures, chosen = zip(*drawn, strict=True)
    return list(pictures), chosen


def accuracy(words, wanted):
    return np.mean([a == b for a, b in zip(words, wanted, strict=True)])


def test_it_says_what_scenes_show(judge, scenes):
    pictures, chosen = scenes
    seen = classify(judge, pictures)
    worn = [each.accessory[0] if each.accessory else NONE for each in chosen]
    assert accuracy(seen["class"], [each.subject[0] for each in chosen]) > CLASS
    assert accuracy(seen["place"], [each.place for each in chosen]) > PLACE
    assert accuracy(seen["accessory"], worn) > WORN
    assert accuracy(seen["style"], [each.subject[1] for each in chosen]) > STYLE
    assert accuracy(seen["tint"], [each.colour or NONE for each in chosen]) > TINT


def test_it_knows_who_the_base_never_saw(judge, sprites):
    people, rng = emoji.PORTRAITS["people"], np.random.default_rng(78)
    worn, pictures = list(emoji.ACCESSORIES) * 20, []
    for item in worn:
        options = {"classes": people, "accessories": (item,)}
        scene = emoji.portrait_scene(rng, sprites, **options)
        pictures.append(emoji.portrait(rng, sprites, scene))
    seen = classify(judge, pictures)
    assert accuracy(seen["accessory"], worn) > PORTRAIT
    assert np.isin(seen["class"], people).mean() > PORTRAIT


def test_a_picture_is_judged_alone(judge, scenes):
    pictures = scenes[0][:5]
    together = probabilities(judge, pictures)
    for i, picture in enumerate(pictures):
        alone = probabilities(judge, [picture])
        for head, chances in together.items():
            np.testing.assert_allclose(alone[head][0], chances[i], atol=1e-5)
            assert chances[i].sum() == pytest.approx(1, abs=1e-5)


def test_its_heads_speak_the_worlds_words(judge, sprites):
    assert set(judge.heads["class"]) == {name for name, _ in sprites}
    assert judge.heads["place"] == (*emoji.COLOURS, *emoji.SCENES)
    assert judge.heads["accessory"] == (NONE, *emoji.ACCESSORIES)
    assert judge.heads["style"] == tuple(emoji.STYLES)
    assert judge.heads["tint"] == (NONE, *emoji.TINTS)


def test_it_is_small_and_half_precision():
    path = embedded("classifier") / "model.safetensors"
    assert path.stat().st_size < 3e6
    header = path.read_bytes()[8 : 8 + int.from_bytes(path.read_bytes()[:8], "little")]
    kinds = {e["dtype"] for e in json.loads(header).values() if "dtype" in e}
    assert kinds == {"F16"}


def test_a_folder_without_one_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no classifier in {tmp_path}"):
        load_classifier(tmp_path)

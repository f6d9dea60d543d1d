"""The attributes that a prompt of the emoji world names, and scenes that fit it."""

import numpy as np
import pytest

from configs.evaluate import prompts
from personax.data import emoji
from personax.data.emoji.prompts import attributes, scene_for


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("a photo of a {}", {}),
        ("a photo of a {} at night", {"place": "at night"}),
        ("a photo of a {} on a red background", {"place": "red"}),
        ("a photo of a purple {}", {"tint": "purple"}),
        ("a photo of a {} in flat style", {"style": "fluent-emoji-flat"}),
        (
            "a photo of a {} wearing sunglasses at night",
            {"accessory": "sunglasses", "place": "at night"},
        ),
        ("a photo of a {} next to a rocket", {}),
    ],
)
def test_attributes_are_words_of_the_classifier(template, words):
    assert attributes(template) == words


def test_glasses_are_not_sunglasses():
    assert attributes("a {} wearing glasses") == {"accessory": "glasses"}


def test_attributes_of_a_caption_are_those_of_its_scene():
    for place in (*emoji.SCENES, *emoji.COLOURS):
        scene = emoji.Scene(("dog-face", "noto"), place, colour="green")
        template = emoji.caption(scene).replace("dog", "{}")
        assert attributes(template) == {"place": place, "tint": "green"}


def test_the_live_prompts_name_five_accessories_and_two_styles():
    words = [attributes(template) for template in prompts.EMOJI_LIVE]
    assert sum("accessory" in each for each in words) == 5
    assert sum("style" in each for each in words) == 2


@pytest.mark.parametrize("template", [*prompts.EMOJI_LIVE, *prompts.EMOJI_OBJECT])
def test_a_scene_fits_its_prompt(template):
    sprites = emoji.load_sprites()
    dog = emoji.subject("dog").sprite
    scene = scene_for(template, [dog], sprites, np.random.default_rng(0))
    words = attributes(template)
    assert scene.subject[0] == dog[0]
    assert scene.colour == words.get("tint")
    assert scene.place == words.get("place", scene.place)
    assert (scene.accessory or (None,))[0] == words.get("accessory")
    assert (scene.other is not None) == (" next to a " in template)


def test_a_prompt_with_an_unknown_object_is_refused():
    sprites = emoji.load_sprites()
    with pytest.raises(ValueError, match="no class 'submarine'"):
        scene_for(
            "a {} next to a submarine",
            [emoji.subject("dog").sprite],
            sprites,
            np.random.default_rng(0),
        )

"""What the prompts of the emoji protocol are judged by."""

import pytest

from configs.evaluate import prompts
from personax.data import emoji
from personax.evaluation.prompt_attributes import asked


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
def test_it_finds_what_the_classifier_can_tell(template, words):
    assert asked(template) == words


def test_glasses_are_not_sunglasses():
    assert asked("a {} wearing glasses") == {"accessory": "glasses"}


def test_what_is_asked_is_what_renders_show():
    """A caption of the world says what its scene has."""
    for place in (*emoji.SCENES, *emoji.COLOURS):
        scene = emoji.Scene(("dog-face", "noto"), place, colour="green")
        template = emoji.caption(scene).replace("dog", "{}")
        assert asked(template) == {"place": place, "tint": "green"}


def test_every_prompt_of_live_subjects_with_an_attribute_asks_for_it():
    wanted = [asked(template) for template in prompts.EMOJI_LIVE]
    assert sum("accessory" in each for each in wanted) == 5
    assert sum("style" in each for each in wanted) == 2

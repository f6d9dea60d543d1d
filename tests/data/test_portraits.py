"""Portraits show one sprite of their set, large and centred, on any of the places."""

import collections

import numpy as np
import pytest

from personax.data import emoji


@pytest.fixture(scope="module")
def sprites():
    return emoji.load_sprites()


def scenes(sprites, count, **options):
    rngs = [np.random.default_rng((0, i)) for i in range(count)]
    return [emoji.portrait_scene(rng, sprites, **options) for rng in rngs]


def seen(sprites, scene, seed=0):
    """The pixels that the subject covers, told by a white and a black background."""
    shown = [
        emoji.portrait(
            np.random.default_rng(seed), sprites, emoji.Scene(scene.subject, place)
        ).astype(int)
        for place in ("white", "black")
    ]
    return abs(shown[0] - shown[1]).max(-1) < 60


@pytest.mark.parametrize("which", emoji.PORTRAITS)
def test_every_class_style_and_place_of_a_set_is_there(sprites, which):
    classes = emoji.PORTRAITS[which]
    found = scenes(sprites, 1500, classes=classes)
    there = {(name, style) for name, style in sprites if name in classes}
    assert {scene.subject for scene in found} == there
    places = collections.Counter(scene.place for scene in found)
    assert places.keys() == {*emoji.COLOURS, *emoji.SCENES}
    assert len(places) == 19
    assert max(places.values()) < 2 * min(places.values())
    assert not any(scene.accessory or scene.other or scene.colour for scene in found)


def test_the_base_has_seen_none_of_them():
    ours = {name for classes in emoji.PORTRAITS.values() for name in classes}
    assert not ours & set(emoji.CLASSES)
    assert len(ours) == 17


def test_the_subject_is_large_and_centred(sprites):
    sides, middles = [], []
    for i, scene in enumerate(scenes(sprites, 60)):
        covered = seen(sprites, scene, i)
        rows, columns = (np.flatnonzero(covered.any(axis)) for axis in (1, 0))
        sides.append(max(np.ptp(rows), np.ptp(columns)) + 1)
        middles.append([(each[0] + each[-1]) / 2 for each in (rows, columns)])
    assert min(sides) >= 32 * 0.55
    assert np.mean(sides) > 32 * 0.7
    assert np.abs(np.array(middles) - 15.5).max() <= 5


@pytest.mark.parametrize("name", emoji.ACCESSORIES)
def test_what_is_worn_is_in_the_picture_as_a_whole(sprites, name):
    worn = scenes(sprites, 8, accessories=(name,), places=("white",))
    blank = np.zeros((64, 64, 4), np.uint8)
    for i, scene in enumerate(worn):
        assert scene.accessory[0] == name
        # A block in the accessory's place shows where it would reach.
        block = np.full((64, 64, 4), 255, np.uint8)
        block[..., :3] = 0
        with_block, without = (
            emoji.portrait(
                np.random.default_rng(i), {**sprites, scene.accessory: drawn}, scene
            ).astype(int)
            for drawn in (block, blank)
        )
        changed = np.flatnonzero(abs(with_block - without).max(-1).any(1))
        size = emoji.ACCESSORIES[name].size * 48 / 2
        assert len(changed) >= size - 2


def test_scene_and_picture_depend_on_the_dice_alone(sprites):
    def draw(seed):
        rng = np.random.default_rng(seed)
        scene = emoji.portrait_scene(
            rng, sprites, accessories=(None, "glasses"), colours=(None, "red")
        )
        return scene, emoji.portrait(rng, sprites, scene)

    for seed in range(5):
        (scene, pixels), (again, same) = draw(seed), draw(seed)
        assert scene == again
        np.testing.assert_array_equal(pixels, same)
        assert pixels.shape == (32, 32, 3)
        assert pixels.dtype == np.uint8
    assert len({draw(seed)[1].tobytes() for seed in range(20)}) == 20


def test_a_portrait_s_caption_says_what_it_shows(sprites):
    (scene,) = scenes(
        sprites, 1, classes=("boy",), places=("on the beach",), accessories=("crown",)
    )
    said = "a photo of a boy wearing a crown on the beach"
    assert emoji.caption(scene) == said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"classes": ("byo",)}, "Unknown class 'byo'; nearest: boy"),
        ({"styles": ("oil",)}, "Unknown style 'oil'"),
        ({"accessories": ("hat",)}, "Unknown accessory 'hat'; nearest: top-hat"),
        ({"places": ("on the moon",)}, "Unknown place 'on the moon'"),
    ],
)
def test_a_portrait_that_cannot_be_is_refused(sprites, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        scenes(sprites, 1, **options)

"""Sets by name: what they hold, the same each time, and how others are refused."""

import pickle

import numpy as np
import pytest

from personax.data import emoji
from personax.data.sets import open_set


def test_portraits_are_the_same_ones_in_every_process():
    found = open_set("portraits:people:50")
    assert len(found) == 50
    again = pickle.loads(pickle.dumps(found))
    for index in (0, 7, 49):
        one, other = found.picture(index), again.picture(index)
        np.testing.assert_array_equal(one.pixels, other.pixels)
        assert one.caption == other.caption == emoji.caption(found.scene(index))
    assert len(pickle.dumps(found)) < 1000  # without the sprites
    pictures = {found.picture(i).pixels.tobytes() for i in range(50)}
    assert len(pictures) == 50


def test_portraits_go_on_for_ever_and_have_seeds():
    short, long = open_set("portraits:animals:10"), open_set("portraits:animals")
    assert len(long) == 20_000
    np.testing.assert_array_equal(short.picture(9).pixels, long.picture(9).pixels)
    other = open_set("portraits:animals:10:seed=1")
    assert other.picture(9).pixels.tobytes() != short.picture(9).pixels.tobytes()
    assert other.digest() != short.digest() != long.digest()
    assert {long.scene(i).subject[0] for i in range(200)} == set(
        emoji.PORTRAITS["animals"]
    )


def test_portraits_come_in_the_styles_that_are_named():
    found = open_set("portraits:people:styles=noto+twemoji")
    styles = {found.scene(i).subject[1] for i in range(60)}
    assert styles == {"noto", "twemoji"}


def test_scenes_are_the_base_s_own_stream():
    found, sprites = open_set("scenes"), emoji.load_sprites()
    assert len(found) == 120_000
    for index in (0, 5):
        pixels, caption = emoji.scene(0, index, sprites)
        np.testing.assert_array_equal(found.picture(index).pixels, pixels)
        assert found.picture(index).caption == caption


def test_scenes_take_all_styles_and_the_held_out_subjects_when_asked():
    found = open_set("scenes:9:seed=4:styles=all:held_out")
    sprites = emoji.load_sprites()
    options = {"styles": tuple(emoji.STYLES), "held_out": True}
    pixels, caption = emoji.scene(4, 8, sprites, **options)
    np.testing.assert_array_equal(found.picture(8).pixels, pixels)
    assert (len(found), found.picture(8).caption) == (9, caption)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("", "Unknown picture set ''.*portraits:people, .*, cache:DIR"),
        ("people", "Unknown picture set 'people'"),
        ("portraits:cars", "Unknown set 'portraits:cars'; .* portraits:people"),
        ("portraits:people:many", "Unknown option 'many'.*a number of .*, seed=N"),
        ("portraits:people:seed=x", "'seed=x' in .* is not a number"),
        ("portraits:people:0", "holds no picture"),
        ("scenes:style=noto", "Unknown option 'style=noto'"),
        ("scenes:styles=oil", "Unknown style 'oil'"),
        ("folder:", "Unknown picture set 'folder:'"),
        ("cache:x", "cache:x holds latents"),
    ],
)
def test_what_is_no_set_is_refused(source, sentence):
    with pytest.raises(ValueError, match=sentence):
        open_set(source)


def test_a_folder_that_is_not_there_is_refused():
    with pytest.raises(FileNotFoundError, match="no folder or zip of pictures /no"):
        open_set("folder:/nowhere")

"""The embedded CLIP as a judge: it tells what it was trained to tell."""

import numpy as np
import pytest

from personax.data import emoji
from personax.loading import load_clip
from personax.metrics import clip as judge


@pytest.fixture(scope="module")
def clip():
    return load_clip()


@pytest.fixture(scope="module")
def pictures():
    sprites, names = emoji.load_sprites(), ("dog-face", "red-apple", "castle")
    scenes = [emoji.Scene((name, "noto"), "on the grass") for name in names]
    return [emoji.render(np.random.default_rng(0), sprites, each) for each in scenes]


def test_zero_shot_names_what_is_shown(clip, pictures):
    words = ("apple", "castle", "dog")
    prompts = [f"a photo of a {word} on the grass" for word in words]
    cosines = judge.of_images(clip, pictures) @ judge.of_texts(clip, prompts).T
    found = cosines.argmax(axis=1)
    assert [words[i] for i in found] == ["dog", "apple", "castle"]


def test_features_have_length_one_or_their_own(clip, pictures):
    unit = judge.of_images(clip, pictures)
    raw = judge.of_images(clip, pictures, unit=False)
    lengths = np.linalg.norm(raw, axis=1, keepdims=True)
    assert np.allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    assert np.allclose(raw / lengths, unit, atol=1e-6)
    assert lengths.min() > 1.5


def test_a_larger_picture_is_fitted(clip, pictures):
    large = [each.repeat(4, 0).repeat(4, 1) for each in pictures]
    both = judge.of_images(clip, pictures) * judge.of_images(clip, large)
    assert both.sum(axis=1).min() > 0.95

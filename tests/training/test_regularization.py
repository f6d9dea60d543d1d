"""Regularisation sets: drawn once, gone on with, captioned, chosen by similarity."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from personax.concepts.bind import from_base
from personax.core import images
from personax.data import emoji as emoji_world
from personax.data.captioned import read_captioned, write_captioned
from personax.training import regularization
from personax.training.regularization import Prior, check, prior_set


@pytest.fixture(scope="module")
def get(emoji):
    """`prior_set` on the embedded base."""
    model = from_base(emoji)

    def run(prior, class_word="dog", size=(32, 32)):
        return prior_set(prior, emoji, model, class_word, size)

    return run


@pytest.fixture
def never_draws(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a picture was drawn")

    monkeypatch.setattr(regularization, "make_sampler", refuse)


@pytest.fixture
def captioned(tmp_path):
    """A function that writes a folder of plain pictures with these captions."""

    def write(captions):
        folder = tmp_path / "pictures"
        for number, name in enumerate(captions):
            pixels = np.full((16, 16, 3), number, np.uint8)
            images.write_png(folder / name, pixels)
        write_captioned(folder, captions)
        return str(folder)

    return write


@pytest.fixture(scope="module")
def drawn(get, tmp_path_factory):
    """Settings, their pictures and the pictures' bytes; no test may change them."""
    cache = tmp_path_factory.mktemp("cache")
    settings = Prior(
        "generated",
        prompt="a photo of a dog",
        count=5,
        steps=2,
        batch=2,
        cache=str(cache),
    )
    pictures = get(settings)
    return settings, pictures, [picture.path.read_bytes() for picture in pictures]


def test_generated_pictures_have_the_prompt_and_a_record_of_their_settings(drawn):
    settings, pictures, _ = drawn
    assert [picture.path.name for picture in pictures] == [
        f"{index:04d}.png" for index in range(5)
    ]
    folder = pictures[0].path.parent
    assert read_captioned(folder) == pictures
    assert {picture.caption for picture in pictures} == {"a photo of a dog"}
    pixels = list(images.read_images(folder).values())
    assert {picture.shape for picture in pixels} == {(32, 32, 3)}
    assert len({picture.tobytes() for picture in pixels}) == 5
    record = json.loads((folder / "settings.json").read_text())
    assert record["prompt"] == settings.prompt
    assert record["steps"] == 2


def test_an_existing_set_is_not_drawn_again(get, drawn, never_draws):
    settings, pictures, _ = drawn
    folder = pictures[0].path.parent
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert get(settings) == pictures
    # A smaller set is the first of the pictures; the others keep their captions.
    assert get(dataclasses.replace(settings, count=3)) == pictures[:3]
    assert read_captioned(folder) == pictures
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == written


def test_missing_pictures_are_redrawn_bitwise(get, drawn):
    settings, pictures, before = drawn
    pictures[1].path.unlink()
    pictures[4].path.unlink()
    pictures[2].path.write_bytes(before[2][:-20])  # cut off
    kept = {i: pictures[i].path.stat().st_mtime_ns for i in (0, 3)}
    assert get(settings) == pictures
    assert [picture.path.read_bytes() for picture in pictures] == before
    assert {i: pictures[i].path.stat().st_mtime_ns for i in kept} == kept
    assert read_captioned(pictures[0].path.parent) == pictures
    names = {path.name for path in pictures[0].path.parent.iterdir()}
    assert names == {p.path.name for p in pictures} | {
        "metadata.jsonl",
        "settings.json",
    }


def test_an_interrupted_write_leaves_no_incomplete_picture(get, tmp_path, monkeypatch):
    write = regularization.write_png

    def killed(path, pixels):
        write(path, pixels)
        if "0002" in path.name:
            path.write_bytes(path.read_bytes()[:50])
            raise KeyboardInterrupt

    monkeypatch.setattr(regularization, "write_png", killed)
    settings = Prior("world", count=4, cache=str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        get(settings)
    (folder,) = tmp_path.iterdir()
    assert [path.name for path in sorted(folder.glob("*.png"))] == [
        "0000.png",
        "0001.png",
    ]
    monkeypatch.undo()
    assert get(settings) == read_captioned(folder)
    assert len(images.read_images(folder)) == 4


def test_a_larger_set_extends_a_smaller_one(get, drawn, tmp_path):
    settings, smaller, before = drawn
    cache = shutil.copytree(settings.cache, tmp_path / "cache")
    folder = cache / smaller[0].path.parent.name
    kept = {path: path.stat().st_mtime_ns for path in folder.glob("*.png")}
    pictures = get(dataclasses.replace(settings, count=7, cache=str(cache)))
    assert [picture.path.read_bytes() for picture in pictures[:5]] == before
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(pictures) == 7
    assert read_captioned(folder) == pictures


def test_a_picture_does_not_depend_on_its_batch(get, drawn, tmp_path):
    settings, pictures, _ = drawn
    alone = get(dataclasses.replace(settings, count=2, batch=1, cache=str(tmp_path)))
    for one, other in zip(alone, pictures, strict=False):
        pixels = [images.read_image(p.path).astype(int) for p in (one, other)]
        assert np.abs(pixels[0] - pixels[1]).max() <= 2  # of 255, float32


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a photo of a cat"},
        {"seed": 1},
        {"steps": 3},
        {"guidance": 3.0},
        {"eta": 0.0},
    ],
)
def test_other_settings_have_a_folder_of_their_own(get, drawn, change, monkeypatch):
    settings, pictures, _ = drawn
    black = np.zeros((32, 32, 3), np.uint8)
    kept = regularization._kept

    def without_drawing(prior, record, draw, caption):
        return kept(prior, record, lambda own: ((i, black) for i in own), caption)

    monkeypatch.setattr(regularization, "_kept", without_drawing)
    other = get(dataclasses.replace(settings, **change))
    assert other[0].path.parent != pictures[0].path.parent


def test_another_size_has_a_folder_of_its_own_and_that_size(get, drawn):
    settings, pictures, _ = drawn
    other = get(dataclasses.replace(settings, count=1), size=(16, 24))
    assert other[0].path.parent != pictures[0].path.parent
    assert images.read_image(other[0].path).shape == (16, 24, 3)


def test_a_prompt_with_a_placeholder_is_an_error(get, never_draws):
    with pytest.raises(ValueError, match="<v1>"):
        get(Prior("generated", prompt="a photo of a <v1> dog"))


def test_every_caption_of_the_world_names_the_class(get, tmp_path):
    settings = Prior("world", count=60, cache=str(tmp_path))
    pictures = get(settings, "teddy bear")
    assert len(pictures) == 60
    assert all("teddy bear" in picture.caption for picture in pictures)
    assert len({picture.caption for picture in pictures}) > 30
    assert read_captioned(pictures[0].path.parent) == pictures
    assert len({picture.path.read_bytes() for picture in pictures}) == 60


def test_a_scene_of_the_world_depends_on_seed_and_index_alone(get, tmp_path):
    settings = Prior("world", count=4, cache=str(tmp_path))
    pictures = get(settings)
    before = [picture.path.read_bytes() for picture in pictures]
    pictures[2].path.unlink()
    assert get(dataclasses.replace(settings, count=6))[:4] == pictures
    assert [picture.path.read_bytes() for picture in pictures] == before
    other = get(dataclasses.replace(settings, seed=1))
    assert other[0].path.read_bytes() != before[0]


def test_the_world_of_a_class_holds_no_held_out_subject(get, tmp_path, monkeypatch):
    seen = set()
    render = emoji_world.render

    def watch(rng, sprites, scene):
        seen.add(scene.subject)
        return render(rng, sprites, scene)

    monkeypatch.setattr(emoji_world, "render", watch)
    get(Prior("world", count=40, cache=str(tmp_path)))
    assert len(seen) > 1
    assert not seen & emoji_world.HELD_OUT
    assert {emoji_world.class_word(name) for name, _ in seen} == {"dog"}


def test_a_folder_gives_its_first_pictures_with_the_prompt_as_default_caption(
    get, captioned
):
    source = captioned({"a.png": "a dog", "b.png": "", "c.png": "a cat"})
    settings = Prior("folder", prompt="a photo of a dog", count=2, images=source)
    pictures = get(settings)
    assert [picture.path.name for picture in pictures] == ["a.png", "b.png"]
    assert [picture.caption for picture in pictures] == ["a dog", "a photo of a dog"]
    assert len(get(dataclasses.replace(settings, count=0))) == 3


CAPTIONS = {
    "a.png": "a pizza at night",
    "b.png": "a photo of a dog at night",
    "c.png": "a photo of a dog",
    "d.png": "a photo of a cat",
    "e.png": "a photo of a dog",
}


def test_retrieved_pictures_are_the_most_similar_first(get, captioned):
    source = captioned(CAPTIONS)
    settings = Prior(
        "retrieved", prompt="a photo of a dog", count=0, threshold=-1.0, images=source
    )
    pictures = [picture.path.name for picture in get(settings)]
    assert pictures[:2] == ["c.png", "e.png"]  # the prompt itself, in the list's order
    assert sorted(pictures) == sorted(CAPTIONS)
    assert pictures[-1] == "a.png"
    first = get(dataclasses.replace(settings, count=1))
    assert [picture.path.name for picture in first] == ["c.png"]


def test_retrieved_pictures_reach_the_threshold(get, captioned):
    source = captioned(CAPTIONS)
    settings = Prior(
        "retrieved", prompt="a photo of a dog", threshold=0.99, images=source
    )
    assert {picture.caption for picture in get(settings)} == {"a photo of a dog"}


def test_captions_are_encoded_alike_in_every_batch(get, captioned, monkeypatch):
    source = captioned(CAPTIONS)
    settings = Prior(
        "retrieved", prompt="a dog", count=0, threshold=-1.0, images=source
    )
    together = get(settings)
    monkeypatch.setattr(regularization, "_TEXTS", 2)
    assert get(settings) == together


def test_no_similar_caption_is_an_error_that_names_the_best(get, captioned):
    source = captioned({"a.png": "a pizza", "b.png": "a photo of a cat"})
    settings = Prior("retrieved", prompt="a photo of a dog", images=source)
    with pytest.raises(ValueError, match=r"0\.85 to .*; .* 'a photo of a cat' with 0"):
        get(settings)


def test_no_source_is_no_set(get):
    assert get(Prior()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Prior("generated", prompt="a dog", count=0), "count=0: .* at least 1"),
        (Prior("world", count=-1), "count=-1: .* at least 1"),
        (Prior("generated"), "needs a prompt"),
        (Prior("web"), "set 'web'; expected one of generated, world, folder, retr"),
        (Prior("folder"), "needs concept.prior_images"),
        (Prior("folder", images="no/such/folder"), "no/such/folder"),
        (Prior("retrieved", prompt="a dog", images="no/such/folder"), "no/such/folder"),
    ],
)
def test_an_invalid_set_is_an_error_before_any_computation(settings, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check(settings, "dog")


def test_an_unknown_class_of_the_world_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match="teddy bear"):
        check(Prior("world"), "tedy bear")

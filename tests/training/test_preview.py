"""Preview sheets: their rows, and that they draw the same seeds."""

import numpy as np
import pytest

from personax.concepts.bind import Model, from_base
from personax.diffusion.denoiser import Denoiser
from personax.methods import Concept
from personax.training import preview
from personax.training.config import PreviewConfig
from personax.training.preview import Caption, captions

DOG = Concept("<v1>", "dog", (), (), "<v1> dog")
CAT = Concept("<v2>", "cat", (), (), "<v2> cat")
OTHER_DOG = Concept("<v3>", "dog", (), (), "<v3> dog")
WORD = Concept("", "moongate", (), (), "moongate")
BEFORE = Model(Denoiser({"value": 100}), None)
AFTER = Model(Denoiser({"value": 200}), None)


def colour(value):
    return np.full((8, 8, 3), value, np.uint8)


@pytest.mark.quick
def test_each_caption_comes_without_the_concept_first():
    assert captions(["{} at night", "a {}"], [DOG]) == [
        Caption("dog at night", False),
        Caption("<v1> dog at night", True),
        Caption("a dog", False),
        Caption("a <v1> dog", True),
    ]


@pytest.mark.quick
def test_braces_are_replaced_by_every_concept():
    trained = [row.text for row in captions(["a {}"], [DOG, CAT]) if row.trained]
    assert trained == ["a <v1> dog", "a <v2> cat"]


@pytest.mark.quick
def test_two_concepts_of_one_class_share_its_row():
    rows = captions(["a {}"], [DOG, OTHER_DOG])
    assert [row.text for row in rows if not row.trained] == ["a dog"]
    assert [row.text for row in rows if row.trained] == ["a <v1> dog", "a <v3> dog"]


@pytest.mark.quick
def test_a_prompt_without_braces_is_kept_after_its_class_words():
    assert captions(["a <v1> dog beside a <v2> cat"], [DOG, CAT]) == [
        Caption("a dog beside a cat", False),
        Caption("a <v1> dog beside a <v2> cat", True),
    ]


@pytest.mark.quick
def test_an_existing_word_is_drawn_before_and_after():
    assert captions(["a {}"], [WORD]) == [
        Caption("a moongate", False),
        Caption("a moongate", True),
    ]


@pytest.mark.quick
def test_a_sheet_has_the_pictures_then_the_class_and_the_concept(monkeypatch):
    def draw(model, prompts):
        value = model.denoiser.params["value"]
        return [[colour(value + i)] * 2 for i in range(len(prompts))]

    arguments = {}
    monkeypatch.setattr(
        preview.images,
        "grid",
        lambda tiles, **options: arguments.update(tiles=tiles, **options) or colour(0),
    )
    rows = captions(["a {}", "{} at night"], [DOG])
    pictures = [colour(i) for i in range(3)]
    gallery = preview.make_gallery(draw, rows, pictures, BEFORE)
    preview.sheet(gallery, AFTER, "a title")
    assert arguments["title"] == "a title"
    assert arguments["columns"] == 3
    assert arguments["row_labels"] == ["training pictures", *(row.text for row in rows)]
    values = [
        None if tile is None else int(tile[0, 0, 0]) for tile in arguments["tiles"]
    ]
    assert np.reshape(values, (5, 3)).tolist() == [
        [0, 1, 2],
        [100, 100, None],
        [200, 200, None],
        [101, 101, None],
        [201, 201, None],
    ]


@pytest.mark.quick
def test_a_sheet_shows_eight_pictures_at_most():
    def draw(_, prompts):
        return [[colour(0)] for _ in prompts]

    def width(count):
        gallery = preview.make_gallery(
            draw, captions(["{}"], [DOG]), [colour(1)] * count, BEFORE
        )
        return preview.sheet(gallery, AFTER, "").shape[1]

    assert width(4) < width(8) == width(30)


def test_a_prompt_is_drawn_with_the_same_seeds_every_time(emoji):
    model = from_base(emoji)
    config = PreviewConfig(images=2, steps=2, guidance=3.0)
    draw = preview.make_draw(emoji, emoji.spec, (32, 32), config, seed=1)
    dog, cat = draw(model, ["a dog", "a cat"])
    (again,) = draw(model, ["a cat"])
    assert [pixels.shape for pixels in cat] == [(32, 32, 3)] * 2
    np.testing.assert_array_equal(cat, again)
    assert not np.array_equal(cat[0], cat[1])
    assert not np.array_equal(cat, dog)

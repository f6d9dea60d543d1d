"""The emoji world draws what it says, as often as the base saw it."""

import collections

import numpy as np
import pytest

from personax.data import emoji

N = 6000


@pytest.fixture(scope="module")
def sprites():
    return emoji.load_sprites()


@pytest.fixture(scope="module")
def drawn(sprites):
    """N scenes with their wordings and captions."""
    rng = np.random.default_rng(0)
    scenes = [emoji.choose(rng, sprites) for _ in range(N)]
    wordings = [emoji.phrase(rng, scene) for scene in scenes]
    return [(s, w, emoji.caption(s, w)) for s, w in zip(scenes, wordings, strict=True)]


def assert_share(hits, expected):
    """The share of true entries is `expected`, within four standard errors."""
    hits = list(hits)
    error = np.sqrt(expected * (1 - expected) / len(hits))
    assert abs(np.mean(hits) - expected) < 4 * error, (np.mean(hits), expected)


def picture(sprites, seed=0, **fields):
    scene = emoji.Scene(**{"subject": ("star", "noto"), "place": "blue"} | fields)
    return emoji.render(np.random.default_rng(seed), sprites, scene).astype(int)


def test_the_world_has_the_documented_size(sprites):
    assert len(sprites) == 929
    assert all(s.shape == (64, 64, 4) and s.dtype == np.uint8 for s in sprites.values())
    classes = {name for name, _ in sprites}
    assert len(classes) == 147
    assert {style for _, style in sprites} == set(emoji.STYLES)
    assert len(emoji.CLASSES) == len(classes & set(emoji.CLASSES)) == 48
    assert set(emoji.ACCESSORIES) <= classes
    assert set(emoji.GROUPS) <= set(emoji.CLASSES)
    sizes = map(
        len, (emoji.HEADS, emoji.ACCESSORIES, emoji.COLOURS, emoji.SCENES, emoji.TINTS)
    )
    assert list(sizes) == [26, 7, 10, 9, 7]


def test_subjects_are_the_held_out_sprites(sprites):
    subjects = emoji.subjects()
    assert {s.sprite for s in subjects.values()} == emoji.HELD_OUT
    assert sprites.keys() >= emoji.HELD_OUT
    for name, subject in subjects.items():
        assert subject.name == name
        assert len(subject.images) == len(subject.places) == 5
        assert all(path.is_file() for path in subject.images)
        assert subject.class_word == emoji.class_word(subject.sprite[0])
    assert collections.Counter(s.kind for s in subjects.values()) == {
        "live": 8,
        "object": 4,
    }


def test_a_mistyped_subject_lists_those_that_exist():
    assert emoji.subject("teddy_bear").class_word == "teddy bear"
    with pytest.raises(ValueError, match=r"'dgo'.*dog, cat, fox.*sunflower"):
        emoji.subject("dgo")


def test_stream_depends_on_seed_and_index_alone(sprites):
    first = [emoji.scene(3, index, sprites) for index in range(6)]
    again = [emoji.scene(3, index, sprites) for index in reversed(range(6))]
    for (image, words), (same, caption) in zip(first, reversed(again), strict=True):
        np.testing.assert_array_equal(image, same)
        assert words == caption
    pixels = {image.tobytes() for image, _ in first}
    other = {emoji.scene(4, index, sprites)[0].tobytes() for index in range(6)}
    assert len(pixels | other) == 12


def test_sample_is_a_picture_and_its_caption(sprites):
    rng = np.random.default_rng(0)
    for _ in range(100):
        image, words = emoji.sample(rng, sprites)
        assert image.shape == (32, 32, 3)
        assert image.dtype == np.uint8
        assert words == words.strip()
        assert "  " not in words


def test_subjects_and_places_are_as_frequent_as_in_training(drawn):
    classes = collections.Counter(scene.subject[0] for scene, _, _ in drawn)
    assert classes.keys() == set(emoji.CLASSES)
    for name in emoji.CLASSES:
        assert_share((s.subject[0] == name for s, _, _ in drawn), 1 / 48)
    for place in emoji.COLOURS:
        assert_share((s.place == place for s, _, _ in drawn), 1 / 28)
    for place in emoji.SCENES:
        assert_share((s.place == place for s, _, _ in drawn), 2 / 28)
    # bear is held out in a style that the base never sees: three are left.
    for style in emoji.BASE_STYLES:
        bears = [s.subject[1] == style for s, _, _ in drawn if s.subject[0] == "bear"]
        assert_share(bears, 1 / 3)


def test_accessories_neighbours_and_distances_are_as_frequent_as_in_training(drawn):
    heads = [s for s, _, _ in drawn if s.subject[0] in emoji.HEADS]
    others = [s for s, _, _ in drawn if s.subject[0] not in emoji.HEADS]
    assert_share((s.accessory is not None for s in heads), 0.35)
    assert not any(s.accessory for s in others)
    worn = [s.accessory[0] for s in heads if s.accessory]
    for name in emoji.ACCESSORIES:
        assert_share((item == name for item in worn), 1 / 7)
    scenes = [s for s, _, _ in drawn]
    assert_share((s.other is not None for s in scenes), 0.15)
    assert_share((s.distance == "near" for s in scenes), 0.04)
    assert_share((s.distance == "far" for s in scenes), 0.04)
    assert_share((s.colour is not None for s in scenes), 0.08)
    assert {s.colour for s in scenes} == {None, *emoji.TINTS}


def test_captions_are_worded_as_in_training(drawn):
    worn = [w for s, w, _ in drawn if s.accessory]
    assert_share((not w.subject for w in worn), 0.12)
    assert_share((w.style for _, w, _ in drawn if w.subject), 0.35)
    assert_share((w.place == "omitted" for _, w, _ in drawn), 0.2)
    assert_share((w.place == "only" for _, w, _ in drawn), 0.016)
    grouped = [(s, w) for s, w, _ in drawn if s.subject[0] in emoji.GROUPS]
    assert_share((w.broader is not None for _, w in grouped), 0.08)
    heads = [
        w.broader == "animal face"
        for s, w in grouped
        if s.subject[0] in emoji.HEADS and (w.broader or "").startswith("animal")
    ]
    assert_share(heads, 0.5)
    middle = [w.lead for s, w, _ in drawn if s.distance is None]
    for lead in ("", "a photo of ", "a picture of "):
        assert_share((one == lead for one in middle), 1 / 3)
    for distance, phrases in emoji.DISTANCES.items():
        texts = [w.lead for s, w, _ in drawn if s.distance == distance]
        for lead in phrases:
            assert_share((one == lead for one in texts), 0.25)


def test_vowels_take_an_half_of_the_time(drawn):
    texts = [
        f" {c}"
        for s, w, c in drawn
        if s.subject[0] == "alien" and w.subject and not s.colour
    ]
    texts = [c for c in texts if "alien" in c.split(" next to ")[0]]
    assert_share((" an alien" in c for c in texts), 0.5)


def test_held_out_sprites_come_only_when_asked_for(drawn, sprites):
    seen = {sprite for s, _, _ in drawn for sprite in (s.subject, s.other)}
    assert not seen & emoji.HELD_OUT
    rng = np.random.default_rng(1)
    asked = [
        emoji.choose(rng, sprites, held_out=True, classes=["fox"]).subject
        for _ in range(60)
    ]
    assert ("fox", "noto") in asked


def test_other_classes_and_styles_come_when_asked_for(sprites):
    rng = np.random.default_rng(1)
    people, styles = ("man", "old-woman"), ("noto-v1", "fluent-emoji")
    scenes = [
        emoji.choose(rng, sprites, classes=people, styles=styles) for _ in range(200)
    ]
    assert {s.subject for s in scenes} == {(p, s) for p in people for s in styles}
    assert {s.other[0] for s in scenes if s.other} == set(people)
    captions = [emoji.caption(s) for s in scenes]
    assert any("old woman" in words for words in captions)
    # lion is drawn in no more than five styles: the class is passed over, not refused.
    missing = [s for s in emoji.STYLES if ("lion", s) not in sprites]
    kept = emoji.choose(rng, sprites, classes=("lion", "bear"), styles=missing)
    assert kept.subject[0] == "bear"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": ["dogface"]}, r"Unknown class 'dogface'; nearest: dog-face"),
        ({"styles": ["pixel"]}, r"Unknown style 'pixel'.* noto, .*fxemoji"),
        ({"classes": ["fox"], "styles": ["noto"]}, r"No class of fox is drawn in noto"),
    ],
)
def test_choose_names_what_is_wrong(sprites, options, message):
    with pytest.raises(ValueError, match=message):
        emoji.choose(np.random.default_rng(0), sprites, **options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"place": "on the beech"}, "Unknown place 'on the beech'; nearest: on th"),
        ({"accessory": ("hat", "noto")}, "Unknown accessory 'hat'; nearest: top-hat"),
        ({"colour": "rde"}, "Unknown colour 'rde'; nearest: red"),
        ({"distance": "close"}, "Unknown distance 'close'"),
        ({"distance": "far", "other": ("fox", "noto")}, "one of accessory, other and"),
        ({"subject": ("star", "nota")}, r"sprite 'star\|nota'; nearest: star\|noto"),
    ],
)
def test_a_scene_that_cannot_be_is_refused(sprites, fields, message):
    with pytest.raises(ValueError, match=message):
        picture(sprites, **fields)


@pytest.mark.parametrize(
    ("scene", "wording", "words"),
    [
        (
            {"accessory": ("crown", "noto")},
            None,
            "a photo of a dog wearing a crown at night",
        ),
        ({"distance": "far"}, None, "a far away photo of a dog at night"),
        (
            {"colour": "orange"},
            {"broader": "animal face", "lead": ""},
            "an orange animal face at night",
        ),
        ({}, {"broader": "animal", "an": False}, "a photo of a animal at night"),
        ({"place": "gray"}, {"place": "only"}, "on a gray background"),
        (
            {"other": ("alarm-clock", "noto"), "place": "red"},
            {"style": True},
            "a photo of a dog next to a alarm clock in joy style on a red background",
        ),
        (
            {"accessory": ("glasses", "noto")},
            {"subject": False},
            "wearing glasses at night",
        ),
        (
            {"subject": ("crying-face", "noto")},
            {"place": "omitted"},
            "a photo of a crying face",
        ),
    ],
)
def test_caption(scene, wording, words):
    scene = {"subject": ("dog-face", "emojione"), "place": "at night"} | scene
    wording = wording if wording is None else emoji.Wording(**wording)
    assert emoji.caption(emoji.Scene(**scene), wording) == words


@pytest.mark.parametrize(("place", "colour"), emoji.COLOURS.items())
def test_plain_backgrounds_have_their_colour(sprites, place, colour):
    corner = picture(sprites, place=place)[0, 0]
    assert abs(corner - colour).max() <= 15


@pytest.mark.parametrize(("place", "land"), emoji.SCENES.items())
def test_places_have_their_ground_under_their_sky(sprites, place, land):
    def closest(row, colour):
        # What stands on the ground (dunes, leaves, bubbles, houses) hides some of it.
        seen = [picture(sprites, seed, place=place)[row] for seed in range(8)]
        return np.median(abs(np.concatenate(seen) - colour).max(-1))

    assert closest(-1, land.ground) <= 15
    assert closest(0, land.sky) <= 15
    assert closest(-1, land.sky) > 15


def test_near_is_larger_than_usual_and_far_smaller(sprites):
    def covered(distance):
        shares = []
        for seed in range(8):
            seen = picture(sprites, seed, distance=distance)
            shares.append((abs(seen - emoji.COLOURS["blue"]).max(-1) > 40).mean())
        return np.mean(shares)

    far, usual, near = map(covered, ("far", None, "near"))
    assert far < usual / 2 < near / 2


def test_tint_recolours_the_subject_alone(sprites):
    plain = picture(sprites, subject=("ghost", "noto"))
    red = picture(sprites, subject=("ghost", "noto"), colour="red")
    changed = abs(plain - red).max(-1) > 0
    assert 0.1 < changed.mean() < 0.6
    redness = [p[changed][:, 0].mean() - p[changed][:, 2].mean() for p in (plain, red)]
    assert redness[1] > redness[0] + 50


@pytest.mark.parametrize("name", emoji.ACCESSORIES)
def test_accessories_sit_on_the_head(sprites, name):
    subject = ("panda", "noto")
    worn = picture(sprites, subject=subject, place="white", accessory=(name, "noto"))
    # A head makes room for its hat, so it is the picture with an unseen accessory that
    # shows where the head is.
    unseen = dict(sprites) | {(name, "noto"): np.zeros((64, 64, 4), np.uint8)}
    head = picture(unseen, subject=subject, place="white", accessory=(name, "noto"))
    changed = abs(worn - head).max(-1) > 20
    assert 0.02 < changed.mean() < 0.3
    rows = np.flatnonzero((abs(head - head[0, 0]).max(-1) > 20).any(1))
    middle = np.flatnonzero(changed.any(1)).mean()
    offset = (middle - rows.mean()) / len(rows)
    assert abs(offset - emoji.ACCESSORIES[name].offset) < 0.2


def test_neighbours_stand_left_and_right(sprites):
    alone = {("star", "noto"): sprites["star", "noto"]}
    alone["fox", "twemoji"] = np.zeros((64, 64, 4), np.uint8)
    subject = picture(alone, other=("fox", "twemoji"))
    alone["star", "noto"], alone["fox", "twemoji"] = (
        alone["fox", "twemoji"],
        sprites["fox", "twemoji"],
    )
    other = picture(alone, other=("fox", "twemoji"))
    columns = [
        np.flatnonzero((abs(p - p[0, 0]).max(-1) > 20).any(0)) for p in (subject, other)
    ]
    assert columns[0].max() <= 16
    assert columns[1].min() >= 15

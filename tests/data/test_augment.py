"""Size augmentation: how often, how large, where it counts, what it says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personax.core.images import fit, to_float
from personax.data import augment as module
from personax.data.augment import AUGMENT, CROP, Augmentation, View

pytestmark = pytest.mark.quick

PRESETS = AUGMENT[1:]
CAPTION = "photo of a <v1> dog"
FAR = ("far away", "very small")
NEAR = ("zoomed in", "close up")
WHITE = np.full((40, 48, 3), 255, np.uint8)  # 1 where a view shows it, 0 elsewhere
NOISE = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def view(rng, pixels, caption, *, size, factor, **options) -> View:
    return module.view(rng, pixels, caption, size, factor, Augmentation(**options))


def _view(seed, augment, *, pixels=WHITE, whole=32, factor=4, **options) -> View:
    rng = np.random.default_rng(seed)
    sizes = {"size": (whole, whole), "factor": factor}
    return view(rng, pixels, CAPTION, augment=augment, **sizes, **options)


def _box(seen: View) -> tuple[int, int, int]:
    """Where the white picture was pasted, and its side."""
    rows, columns = np.nonzero(seen.pixels[..., 0])
    return int(rows.min()), int(columns.min()), int(np.ptp(rows)) + 1


def _says(caption: str, words: tuple[str, ...]) -> bool:
    return any(word in caption for word in words)


@pytest.mark.parametrize(
    ("augment", "small", "plain", "large"),
    [
        ("paper", 0.222, 0.444, 0.333),
        ("compvis", 0.266, 0.400, 0.333),
        ("huggingface", 0.263, 0.397, 0.340),
    ],
)
def test_each_size_is_as_frequent_as_the_preset_says(augment, small, plain, large):
    rng, count = np.random.default_rng(0), 4000
    dot = WHITE[:1, :1]
    captions = [
        view(rng, dot, CAPTION, size=(128, 128), factor=8, augment=augment).caption
        for _ in range(count)
    ]
    far = sum(_says(caption, FAR) for caption in captions) / count
    near = sum(_says(caption, NEAR) for caption in captions) / count
    # Three standard deviations of a share at this count are 0.024.
    assert far == pytest.approx(small, abs=0.024)
    assert near == pytest.approx(large, abs=0.024)
    assert 1 - far - near == pytest.approx(plain, abs=0.024)


@pytest.mark.parametrize("augment", PRESETS)
@given(seed=st.integers(0, 2**32))
def test_a_small_picture_counts_strictly_inside_its_cells(augment, seed):
    share = (170 / 512, 170 / 512)
    seen = _view(seed, augment, whole=512, factor=8, shrink=share)
    if _says(seen.caption, NEAR):
        return
    y, x, side = _box(seen)
    assert side == 170
    rows, columns = np.nonzero(seen.mask)
    assert (rows.min(), rows.max()) == (y // 8 + 1, (y + 170) // 8 - 2)
    assert (columns.min(), columns.max()) == (x // 8 + 1, (x + 170) // 8 - 2)
    assert seen.mask.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


@pytest.mark.parametrize("augment", PRESETS)
@given(seed=st.integers(0, 2**32), crop=st.sampled_from([None, "random", "squash"]))
def test_the_mask_lies_within_the_picture_and_grey_lies_around(augment, seed, crop):
    seen = _view(seed, augment, crop=crop)
    assert seen.pixels.shape == (32, 32, 3)
    assert seen.pixels.dtype == seen.mask.dtype == np.float32
    assert seen.mask.shape == (8, 8)
    assert seen.mask.any()
    shown = seen.mask.repeat(4, axis=0).repeat(4, axis=1).astype(bool)
    assert (seen.pixels[shown] == 1).all()
    y, x, side = _box(seen)
    pasted = np.zeros((32, 32, 3))
    pasted[y : y + side, x : x + side] = 1
    np.testing.assert_array_equal(seen.pixels, pasted)


@pytest.mark.parametrize("augment", PRESETS)
@given(seed=st.integers(0, 2**32))
def test_the_words_are_there_exactly_when_the_size_says_so(augment, seed):
    seen = _view(seed, augment)
    _, _, side = _box(seen)
    assert _says(seen.caption, FAR) == (side < 0.6 * 32)
    if _says(seen.caption, NEAR):
        assert side == 32
        assert seen.mask.all()
    if side == 32 and not _says(seen.caption, NEAR):
        assert seen.caption == CAPTION
        assert seen.mask.all() == (augment == "compvis")


def test_a_margin_is_left_from_twelve_pixels_on_and_dropped_below():
    kept = {}
    for side in range(7, 33):
        share = (side / 32, side / 32)
        views = [_view(seed, "huggingface", shrink=share) for seed in range(200)]
        for seen in views:
            if not _says(seen.caption, NEAR):
                rows, columns = np.nonzero(seen.mask)
                y, x, _ = _box(seen)
                margin = rows.min() > y // 4 and columns.min() > x // 4
                margin &= rows.max() + 1 < (y + side) // 4
                margin &= columns.max() + 1 < (x + side) // 4
                kept[side] = kept.get(side, True) and margin
    assert [side for side, margin in kept.items() if not margin] == [7, 8, 9, 10, 11]


def test_the_border_of_a_whole_picture_counts_only_in_the_authors_release():
    for augment in PRESETS:
        views = (_view(seed, augment, shrink=(1.0, 1.0)) for seed in range(20))
        whole = next(seen for seen in views if seen.caption == CAPTION)
        inner = np.zeros((8, 8))
        inner[1:7, 1:7] = 1
        expected = np.ones((8, 8)) if augment == "compvis" else inner
        np.testing.assert_array_equal(whole.mask, expected)


def test_sides_are_even_in_the_authors_release():
    views = [_view(seed, "compvis") for seed in range(100)]
    assert all(_box(seen)[2] % 2 == 0 for seen in views)
    assert any(_box(seen)[2] % 2 for seen in (_view(s, "paper") for s in range(100)))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("prefix", {f"{w} {CAPTION}" for w in ("a far away", "very small", *NEAR)}),
        ("append", {f"{CAPTION}, {w}" for w in (*FAR, *NEAR)}),
    ],
)
def test_words_stand_before_or_after_the_caption(words, expected):
    preset = {"prefix": ("compvis", "huggingface"), "append": ("paper",)}[words]
    for augment in PRESETS:
        option = None if augment in preset else words
        captions = {_view(s, augment, words=option).caption for s in range(100)}
        assert captions == expected | {CAPTION}


@pytest.mark.parametrize("augment", AUGMENT)
def test_the_same_generator_gives_the_same_view(augment):
    options = {"pixels": NOISE, "crop": "random"}
    for seed in range(20):
        first, second = (_view(seed, augment, **options) for _ in range(2))
        np.testing.assert_array_equal(first.pixels, second.pixels)
        np.testing.assert_array_equal(first.mask, second.mask)
        assert first.caption == second.caption
    assert not np.array_equal(first.pixels, _view(0, augment, **options).pixels)


def test_no_augmentation_is_the_centred_part_all_of_which_counts():
    for size in ((32, 32), (16, 32), (32, 16), (40, 48)):
        rng = np.random.default_rng(0)
        seen = view(rng, NOISE, CAPTION, size=size, factor=4)
        np.testing.assert_array_equal(seen.pixels, fit(NOISE, size))
        assert seen.mask.shape == (size[0] // 4, size[1] // 4)
        assert seen.mask.all()
        assert seen.caption == CAPTION


def test_a_random_crop_that_needs_no_scaling_keeps_the_pixels():
    lefts = set()
    parts = [to_float(NOISE[:, left : left + 40]) for left in range(9)]
    for seed in range(100):
        rng = np.random.default_rng(seed)
        seen = view(rng, NOISE, "", size=(40, 40), factor=4, crop="random").pixels
        lefts |= {left for left in range(9) if np.array_equal(seen, parts[left])}
    assert lefts == set(range(9))


def test_what_a_crop_loses_a_squash_keeps():
    wide = np.zeros((32, 64, 3), np.uint8)
    wide[:, :8] = 255
    cropped, squashed = (
        _view(0, "none", pixels=wide, crop=c) for c in (None, "squash")
    )
    assert cropped.pixels.max() == -1
    assert squashed.pixels.max() == 1
    for augment, keeps in (("paper", False), ("compvis", False), ("huggingface", True)):
        views = (_view(s, augment, pixels=wide, shrink=(0.5, 0.5)) for s in range(20))
        small = next(seen for seen in views if _says(seen.caption, FAR))
        assert (small.pixels.max() > 0.9) == keeps


@given(
    shape=st.tuples(st.integers(16, 300), st.integers(16, 300)),
    crop=st.sampled_from(CROP),
    seed=st.integers(0, 2**32),
)
def test_a_picture_of_any_shape_has_a_part_for_any_canvas(shape, crop, seed):
    pixels = np.full((*shape, 3), 255, np.uint8)
    for size in ((32, 32), (16, 48), (104, 24)):
        rng = np.random.default_rng(seed)
        seen = view(rng, pixels, "", size=size, factor=8, crop=crop)
        assert seen.pixels.shape == (*size, 3)
        assert (seen.pixels == 1).all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"augment": "paper", "size": (32, 64)}, "square canvas, not 64x32"),
        ({"augment": "paper", "shrink": (0.5, 1.2)}, "not a range of shares"),
        ({"augment": "paper", "shrink": (0.1, 1.0)}, "start shrink at 0.219"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(options, sentence):
    options = {"size": (32, 32), "factor": 4} | options
    with pytest.raises(ValueError, match=sentence):
        view(np.random.default_rng(0), WHITE, CAPTION, **options)


def test_the_range_that_an_error_names_is_taken():
    seen = _view(0, "paper", shrink=(0.219, 1.0))
    assert seen.mask.any()

"""Pictures come in upright and RGB, and go out with their settings."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from personax.core import images


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def test_read_image_turns_a_photograph_upright(tmp_path, photo):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held on its side: turn clockwise to see it
    Image.fromarray(photo).save(tmp_path / "side.png", exif=exif)
    upright = images.read_image(tmp_path / "side.png")
    np.testing.assert_array_equal(upright, np.rot90(photo, -1))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "YCbCr", "I;16"])
def test_read_image_gives_rgb_whatever_the_mode(tmp_path, mode):
    gray = np.full((20, 20), 200, np.uint8)
    if mode == "I;16":
        image = Image.fromarray(np.full((20, 20), 200 * 256 + 17, np.uint16))
    else:
        image = Image.fromarray(np.stack([gray] * 3, -1)).convert(mode)
    path = tmp_path / ("gray.tif" if mode in ("CMYK", "YCbCr") else "gray.png")
    image.save(path)
    pixels = images.read_image(path)
    assert pixels.shape == (20, 20, 3)
    assert pixels.dtype == np.uint8
    # Two levels dither and a palette rounds; every other mode is exact.
    tolerance = {"1": 40, "P": 5}.get(mode, 0)
    assert pixels.mean() == pytest.approx(200, abs=tolerance)


def test_read_image_shows_transparency_over_white(tmp_path):
    rgba = np.zeros((20, 20, 4), np.uint8)
    rgba[:10] = (200, 0, 0, 255)
    Image.fromarray(rgba).save(tmp_path / "cut.png")
    pixels = images.read_image(tmp_path / "cut.png")
    assert (pixels[:10] == (200, 0, 0)).all()
    assert (pixels[10:] == 255).all()


def test_read_image_names_the_file_that_it_cannot_use(tmp_path, photo):
    note = tmp_path / "note.png"
    note.write_text("no picture at all")
    with pytest.raises(ValueError, match=r"note\.png cannot be read as a picture"):
        images.read_image(note)
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    Image.fromarray(photo).resize((200, 200)).save(whole)
    cut.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read.*truncated"):
        images.read_image(cut)
    tiny = tmp_path / "tiny.png"
    Image.fromarray(photo[:4]).save(tiny)
    with pytest.raises(ValueError, match=r"tiny\.png is 40x4 pixels"):
        images.read_image(tiny)
    assert images.read_image(tiny, smallest=4).shape == (4, 40, 3)
    with pytest.raises(FileNotFoundError, match=r"absent\.png does not exist"):
        images.read_image(tmp_path / "absent.png")


def test_read_images_takes_a_folder_or_files(tmp_path, photo):
    for name in ("b.png", "a.JPG", "c.webp"):
        Image.fromarray(photo).save(tmp_path / name)
    (tmp_path / "captions.txt").write_text("not a picture")
    (tmp_path / "._a.JPG").write_text("left by a file system")
    found = images.read_images(tmp_path)
    assert [path.name for path in found] == ["a.JPG", "b.png", "c.webp"]
    np.testing.assert_array_equal(found[tmp_path / "b.png"], photo)
    given_files = images.read_images([str(tmp_path / "c.webp"), tmp_path / "b.png"])
    assert [path.name for path in given_files] == ["c.webp", "b.png"]
    assert len(images.read_images(tmp_path / "b.png")) == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="empty holds no picture"):
        images.read_images(tmp_path / "empty")


def test_fit_keeps_the_centre(photo):
    np.testing.assert_array_equal(
        images.fit(photo, 24), images.to_float(photo[:, 8:32])
    )
    assert images.fit(photo, (16, 8)).shape == (16, 8, 3)
    bright = np.zeros((30, 90, 3), np.uint8)
    bright[:, 30:60] = 255
    assert (images.fit(bright, 15)[:, 1:-1] == 1).all()


def test_float_pixels_are_in_minus_one_to_one():
    every = np.arange(256, dtype=np.uint8)
    x = images.to_float(every)
    assert x.dtype == np.float32
    assert (x.min(), x.max()) == (-1, 1)
    np.testing.assert_array_equal(images.to_uint8(x), every)
    beyond = np.array([-3.0, 0.0, 1.5], np.float32)
    np.testing.assert_array_equal(images.to_uint8(beyond), [0, 128, 255])


def test_write_png_keeps_pixels_and_settings(tmp_path, photo):
    path = tmp_path / "new" / "folder" / "dog.png"
    said = images.parameters("a dog, at night", "a cat", Steps=25, Size="40x24")
    images.write_png(path, photo, {"parameters": said, "note": "chien à 東京"})
    np.testing.assert_array_equal(images.read_image(path), photo)
    with Image.open(path) as file:
        assert file.text == {"parameters": said, "note": "chien à 東京"}
    # Other tools look for the uncompressed chunk.
    assert (
        b"tEXtparameters\0a dog, at night\nNegative prompt: a cat" in path.read_bytes()
    )


def test_parameters_have_the_form_that_other_tools_read():
    assert images.parameters(
        "a dog",
        "blurry",
        Steps=25,
        Sampler="DDIM",
        CFG_scale=3.0,
        Seed=0,
        Size="32x32",
        Model="emoji",
    ) == (
        "a dog\nNegative prompt: blurry\nSteps: 25, Sampler: DDIM, CFG scale: 3.0, "
        "Seed: 0, Size: 32x32, Model: emoji"
    )
    assert images.parameters("a dog", Terms="3:a dog, 1:night") == (
        'a dog\nTerms: "3:a dog, 1:night"'
    )


def test_grid_enlarges_pixel_for_pixel_and_aligns(photo):
    tile = photo[:20, :20]
    sheet = images.grid([tile] * 6, columns=3)
    large = tile.repeat(7, 0).repeat(7, 1)  # 20 * 7 is the first above 128
    windows = np.lib.stride_tricks.sliding_window_view(sheet[..., 0], large.shape[:2])
    corner = (windows[:, :, ::17, ::17] == large[::17, ::17, 0]).all((2, 3))
    places = np.argwhere(corner)
    assert len(places) == 6
    assert len(set(places[:, 0])) == 2
    assert len(set(places[:, 1])) == 3
    assert images.grid([tile] * 6, columns=3, scale=1).shape < sheet.shape


def test_grid_leaves_empty_cells_and_margins_white(photo):
    tile = np.zeros((32, 32, 3), np.uint8)
    sheet = images.grid([tile, None, tile, tile], columns=2)
    inked = (sheet != 255).any(-1)
    assert inked.sum() == 3 * 128 * 128
    height, width = inked.shape
    assert not inked[: height // 2, width // 2 :].any()


@settings(deadline=None, max_examples=8)
@given(st.lists(st.text(max_size=20), min_size=4, max_size=4))
def test_grid_keeps_every_label_on_the_sheet(words):
    long = [f"{word} {'very ' * 9}{'x' * 60}" for word in words]
    tile = np.zeros((32, 32, 3), np.uint8)
    sheet = images.grid(
        [tile] * 4,
        row_labels=long[:2],
        column_labels=long[2:],
        captions=long,
        title=long[0],
    )
    for edge in (sheet[:24], sheet[-24:], sheet[:, :24], sheet[:, -24:]):
        assert (edge == 255).all()


def test_grid_writes_its_labels():
    tile = np.zeros((32, 32, 3), np.uint8)
    bare = images.grid([tile] * 2)
    for labels in (
        {"row_labels": ["a row"]},
        {"column_labels": ["one", "two"]},
        {"captions": ["one", "two"]},
        {"title": "a title"},
    ):
        sheet = images.grid([tile] * 2, **labels)
        inked = [(s < 200).any(-1).sum() for s in (bare, sheet)]
        assert inked[1] > inked[0] + 20, labels


def test_grid_refuses_labels_that_do_not_fit(photo):
    with pytest.raises(ValueError, match="There are 3 labels for 4 pictures"):
        images.grid([photo] * 4, captions=["a", "b", "c"])
    with pytest.raises(ValueError, match="at least one picture"):
        images.grid([None, None])
    with pytest.raises(ValueError, match="There are 2 labels for 3 rows"):
        images.grid([photo] * 3, columns=1, row_labels=["a", "b"])

"""Masks: an alpha channel that varies is the mask, and else the luminance."""

import numpy as np
import pytest
from PIL import Image

from personax.core import images
from personax.data import concepts

LEFT = np.zeros((20, 20), np.uint8)
LEFT[:, :10] = 255


def rgba(colour, alpha=LEFT):
    pixels = np.empty((20, 20, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = alpha
    return Image.fromarray(pixels)


def palette():
    image = Image.fromarray(LEFT // 255).convert("P")
    image.putpalette([255, 255, 255, 255, 255, 255])
    image.info["transparency"] = bytes([0, 255])
    return image


BY_ALPHA = {
    "white on transparent": rgba(255),
    "black on transparent": rgba(0),
    "a cut-out": rgba(np.random.default_rng(0).integers(0, 256, (20, 20, 3))),
    "luminance and alpha": rgba(255).convert("LA"),
    "palette": palette(),
}


@pytest.mark.parametrize("image", BY_ALPHA.values(), ids=BY_ALPHA)
def test_an_alpha_channel_that_varies_is_the_mask(tmp_path, capsys, image):
    image.save(tmp_path / "m.png")
    np.testing.assert_array_equal(images.read_mask(tmp_path / "m.png"), LEFT)


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_an_alpha_channel_that_is_even_says_nothing(tmp_path, capsys, alpha):
    rgba(LEFT[..., None], alpha).save(tmp_path / "m.png")
    np.testing.assert_array_equal(images.read_mask(tmp_path / "m.png"), LEFT)
    assert capsys.readouterr().err == ""


def test_which_masks_are_read_by_alpha_is_said_in_one_line(tmp_path, capsys):
    rgba(255).save(tmp_path / "a.png")
    Image.fromarray(LEFT).save(tmp_path / "b.png")
    rgba(0).save(tmp_path / "c.png")
    masks = images.read_masks(sorted(tmp_path.iterdir()))
    for mask in masks.values():
        np.testing.assert_array_equal(mask, LEFT)
    (line,) = capsys.readouterr().err.splitlines()
    assert "a.png, c.png" in line
    assert "alpha channel" in line
    assert "b.png" not in line


@pytest.mark.parametrize("kind", ["float", "int32", "uint16", "1", "RGB"])
def test_other_masks_are_read_by_luminance(tmp_path, kind):
    image = {
        "float": Image.fromarray(LEFT.astype(np.float32) / 255),
        "int32": Image.fromarray(LEFT.astype(np.int32) * 257),
        "uint16": Image.fromarray(LEFT.astype(np.uint16) * 257),
        "1": Image.fromarray(LEFT).convert("1"),
        "RGB": Image.fromarray(LEFT).convert("RGB"),
    }[kind]
    image.save(tmp_path / "m.tif")
    np.testing.assert_array_equal(images.read_mask(tmp_path / "m.tif"), LEFT)


def test_a_mask_is_turned_as_its_picture(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rgba(255).save(tmp_path / "m.png", exif=exif)
    turned = images.read_mask(tmp_path / "m.png")
    np.testing.assert_array_equal(turned, np.rot90(LEFT, -1))


def test_masks_of_a_concept_are_alpha_channels(tmp_path):
    for name in ("pictures", "masks"):
        (tmp_path / name).mkdir()
    Image.fromarray(LEFT).convert("RGB").save(tmp_path / "pictures" / "0.jpg")
    rgba(255).save(tmp_path / "masks" / "0.png")
    masks = concepts.masks(str(tmp_path / "masks"), str(tmp_path / "pictures"))
    np.testing.assert_array_equal(masks, [LEFT])


def test_a_damaged_mask_is_named(tmp_path):
    (tmp_path / "m.png").write_bytes(b"no mask")
    with pytest.raises(ValueError, match=r"m\.png cannot be read as a picture"):
        images.read_mask(tmp_path / "m.png")

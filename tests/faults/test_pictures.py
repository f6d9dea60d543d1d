"""Damaged pictures and archives: named, left out of a stream, refused as a concept."""

import io
import struct
import tarfile
import warnings
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image, ImageFile, JpegImagePlugin, UnidentifiedImageError

from personax.core import decoding, images
from personax.data import concepts
from personax.data.files import open_files
from personax.data.order import Order
from personax.data.stream import PictureReader, Stream
from personax.data.tars import open_tars


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Where sizes are kept between starts."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


@pytest.fixture
def photo():
    return np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


def encoded(pixels, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


ERRORS = [
    struct.error("unpack requires 4 bytes"),
    *(RuntimeError("x"), zipfile.BadZipFile("x"), TypeError("x"), SyntaxError("x")),
    *(KeyError("x"), IndexError("x"), EOFError(), OverflowError("x"), MemoryError()),
    *(RecursionError("x"), AttributeError("x"), AssertionError(), ZeroDivisionError()),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_error_of_a_decoder_names_the_file(tmp_path, photo, monkeypatch, error):
    (tmp_path / "a.png").write_bytes(encoded(photo))
    pictures = open_files(str(tmp_path))

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", fail)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a picture: \w"):
        images.read_image(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a picture: \w"):
        pictures.picture(0)
    monkeypatch.setattr(Image, "open", fail)
    (tmp_path / "b.png").write_bytes(encoded(photo))
    assert "b.png cannot be read" in open_files(str(tmp_path)).skipped[0]


def test_what_is_no_picture_is_said_without_an_object_of_python():
    for data in (b"no picture", b"\x89PNG\r\n\x1a\nx", b""):
        with pytest.raises(ValueError, match=r"^dog\.png cannot be read") as error:
            decoding.decode(data, "dog.png")
        assert "0x" not in str(error.value)
    assert "0x" not in str(decoding.unreadable("a", UnidentifiedImageError("<at 0x1>")))


def test_a_stream_goes_on_without_pictures_that_cannot_be_read(tmp_path, photo):
    whole = encoded(photo)
    (tmp_path / "0.png").write_bytes(whole)
    (tmp_path / "1.png").write_bytes(whole[: len(whole) // 2])  # a good header
    (tmp_path / "2.png").write_bytes(b"no header")
    (tmp_path / "3.png").symlink_to("gone.png")
    (tmp_path / "4.png").mkdir()
    pictures = open_files(str(tmp_path))
    assert "2.png cannot be read" in " ".join(pictures.skipped)
    stream = Stream(
        PictureReader(pictures, [(24, 40)]),
        Order(len(pictures), 2, 0),
        local=range(2),
    )
    rows = stream.step(0)
    np.testing.assert_array_equal(rows["pixels"], np.stack([photo, photo]))
    assert "1.png cannot be read as a picture" in rows["skipped"][0]


def test_a_concept_with_a_damaged_picture_is_refused(tmp_path, photo):
    (tmp_path / "0.png").write_bytes(encoded(photo))
    (tmp_path / "1.jpg").write_bytes(encoded(photo, "JPEG")[:300])
    with pytest.raises(ValueError, match=r"1\.jpg cannot be read as a picture"):
        concepts.pictures(str(tmp_path))


def exif(*entries, order="<"):
    """An EXIF block of (tag, kind, count, value)."""
    head = b"II*\0" if order == "<" else b"MM\0*"
    packed = b"".join(
        struct.pack(f"{order}HHI", *entry[:3])
        + struct.pack(f"{order}H2x" if entry[1] == 3 else f"{order}I", entry[3])
        for entry in entries
    )
    count = struct.pack(f"{order}H", len(entries))
    return b"Exif\0\0" + head + struct.pack(f"{order}I", 8) + count + packed


ON_ITS_SIDE = (0x0112, 3, 1, 6)
BLOCKS = {
    "wrong type": exif((0x010F, 99, 1, 7), ON_ITS_SIDE),
    "beyond the end": exif((0x010F, 2, 1000, 2**31), ON_ITS_SIDE),
    "huge count": exif((0x010F, 2, 2**32 - 1, 8), ON_ITS_SIDE),
    "cut off": exif(ON_ITS_SIDE, ON_ITS_SIDE)[:-9],
    "sub-block beyond the end": exif(ON_ITS_SIDE, (0x8769, 4, 1, 2**31)),
    "big-endian": exif(ON_ITS_SIDE, (0x0131, 5, 9, 1), order=">"),
    "long": exif((0x0112, 4, 1, 6)),
    "text before": exif((0x9286, 7, 3, 0), ON_ITS_SIDE),
}


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_a_damaged_exif_block_keeps_the_picture_and_its_turn(photo, kind, block):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(photo, kind, exif=block, **options)
    turned = np.rot90(decoding.decode(encoded(photo, kind, **options), "a"), -1)
    np.testing.assert_array_equal(decoding.decode(data, "a"), turned)
    assert decoding.read_size(io.BytesIO(data), "a") == turned.shape[:2]


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0II*\0", b"nonsense", b"II"])
def test_an_exif_block_without_an_orientation_turns_nothing(photo, block):
    for value in (0, 9, 2**31):
        other = exif((0x0112, 4, 1, value))
        for data in (encoded(photo, exif=block), encoded(photo, exif=other)):
            np.testing.assert_array_equal(decoding.decode(data, "a"), photo)


def tiff(pixels, *more):
    """An uncompressed TIFF with orientation 6 and more tags."""
    height, width, _ = pixels.shape
    values = {256: width, 257: height, 258: 8, 259: 1, 262: 2, 277: 3, 278: height}
    entries = [(tag, 3, 1, value) for tag, value in values.items()]
    entries += [(279, 4, 1, pixels.nbytes), ON_ITS_SIDE, *more]
    start = 8 + 2 + 12 * (len(entries) + 1) + 4
    block = exif(*sorted([*entries, (273, 4, 1, start)]))
    return block.removeprefix(b"Exif\0\0") + bytes(4) + pixels.tobytes()


TAGS = [
    (0x8769, 4, 1, 2**31),
    (0x8825, 99, 1, 3),
    (0x010F, 5, 2**31, 9),
    (330, 4, 1, 8),
]


@pytest.mark.parametrize("tag", TAGS)
def test_a_tiff_is_turned_by_its_tag_whatever_its_others(photo, tag):
    data = tiff(photo, tag)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decoding.decode(data, "a"), np.rot90(photo, -1))
        assert decoding.read_size(io.BytesIO(data), "a") == (40, 24)


def test_a_misleading_list_of_frames_keeps_the_first(photo, monkeypatch):
    frames = [Image.fromarray(photo)]
    file = io.BytesIO()
    frames[0].save(file, "MPO", save_all=True, append_images=frames)

    def fail(_):
        raise KeyError(45057)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "_getmp", fail)
    assert decoding.decode(file.getvalue(), "a.mpo").shape == (24, 40, 3)


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_several_frames_the_first_is_read(kind):
    frames = [Image.new("RGB", (20, 20), (value,) * 3) for value in (200, 20)]
    file = io.BytesIO()
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    pixels = decoding.decode(file.getvalue(), "a")
    assert pixels.mean() == pytest.approx(200, abs=2)


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_wide_values_are_scaled_from_the_range_that_they_have(dtype):
    half = np.tile(np.linspace(0, 1, 32), (32, 1))
    expected = np.round(255 * half)
    tops = {np.float32: (1, 255, 65535), np.int32: (255, 65535, 2**31 - 1)}[dtype]
    for top in tops:
        data = encoded((top * half).astype(dtype), "TIFF")
        pixels = decoding.decode(data, "a.tif").astype(float)
        most = 127 if top == 2**31 - 1 else 255  # a sign takes a bit
        np.testing.assert_allclose(pixels[..., 0], expected * most / 255, atol=1.1)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0, 5.0, 1e6])
def test_a_float_picture_of_no_plain_range_is_refused(value):
    pixels = np.full((20, 20), 0.5, np.float32)
    pixels[3, 3] = value
    with pytest.raises(ValueError, match=r"^a\.tif cannot be read as a picture: it"):
        decoding.decode(encoded(pixels, "TIFF"), "a.tif")


@pytest.mark.parametrize("value", [-1, 100_000])
def test_an_integer_picture_of_no_plain_range_is_refused(value):
    pixels = np.full((20, 20), value, np.int32)
    with pytest.raises(ValueError, match=r"a\.tif cannot be read .*values are"):
        decoding.decode(encoded(pixels, "TIFF"), "a.tif")


def test_twelve_bits_are_scaled():
    values = np.arange(40 * 24, dtype=np.uint16).reshape(24, 40) * 4
    pairs = values.reshape(-1, 2).astype(int)
    parts = [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1]]
    data = np.stack(parts, -1).astype(np.uint8).tobytes()
    known = {256: 40, 257: 24, 258: 12, 259: 1, 262: 1, 277: 1, 278: 24}
    entries = [(tag, 3, 1, value) for tag, value in known.items()]
    entries += [(279, 4, 1, len(data)), (273, 4, 1, 8 + 2 + 12 * 9 + 4)]
    block = exif(*sorted(entries)).removeprefix(b"Exif\0\0")
    pixels = decoding.decode(block + bytes(4) + data, "a.tif")
    np.testing.assert_array_equal(pixels[..., 0], values // 16)


def test_a_dark_picture_of_16_bits_stays_dark():
    dark = np.full((20, 20), 200, np.uint16)
    for kind in ("PNG", "TIFF", "PPM"):
        assert decoding.decode(encoded(dark, kind), "a").max() == 0


def test_warnings_of_pillow_are_no_errors(photo):
    block = exif((0x010F, 2, 1000, 2**31), ON_ITS_SIDE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decoding.decode(encoded(photo, exif=block), "a").shape == (40, 24, 3)


@pytest.fixture
def packed(tmp_path, photo):
    """A zip of two pictures, and its bytes."""
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.png", encoded(photo))
        file.writestr("../b.png", encoded(photo))
    return path, path.read_bytes()


def test_a_damaged_member_of_a_zip_is_named_and_left_out(packed, photo):
    path, whole = packed
    at = whole.index(b"IDAT") + 40
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    pictures = open_files(str(path))
    assert "a.png cannot be read as a picture" in pictures.skipped[0]
    assert [entry.name for entry in pictures.entries] == ["../b.png"]
    np.testing.assert_array_equal(pictures.picture(0).pixels, photo)


def test_an_encrypted_member_of_a_zip_is_named(packed):
    path, whole = packed
    data = bytearray(whole)
    for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(mark) + flags] |= 1
    path.write_bytes(data)
    assert (
        "a.png cannot be read as a picture: File 'a.png' is enc"
        in (open_files(str(path)).skipped[0])
    )


def test_a_member_packed_by_an_unknown_method_is_named(packed):
    path, whole = packed
    data = bytearray(whole)
    for mark, method in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        data[data.index(mark) + method] = 99
    path.write_bytes(data)
    assert "a.png cannot be read" in open_files(str(path)).skipped[0]


def test_a_zip_without_a_whole_directory_is_refused(packed):
    path, whole = packed
    end = whole.index(b"PK\1\2")
    for data in (whole[:-30], whole[: end + 20], whole[:end] + whole[end + 9 :], b""):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"set\.zip cannot be read as a zip: \w"):
            open_files(str(path))


def test_captions_of_a_zip_that_are_no_text_are_refused(tmp_path, photo):
    for name, data in (("a.txt", b"\xff\xfe\0"), ("metadata.jsonl", b"\xff\xff")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
            file.writestr("a.png", encoded(photo))
            file.writestr(name, data)
        with pytest.raises(ValueError, match=rf"a\.zip/{name} is not UTF-8 text"):
            open_files(str(tmp_path / "a.zip"))


def test_captions_may_be_utf_16(tmp_path, photo):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.png", encoded(photo))
        file.writestr("a.txt", "un chien à Paris\r\n".encode("utf-16"))
    assert open_files(str(tmp_path / "a.zip")).picture(0).caption == "un chien à Paris"
    (tmp_path / "a.png").write_bytes(encoded(photo))
    (tmp_path / "a.txt").write_bytes("un chien à Paris".encode("utf-8-sig"))
    (own,) = concepts.own_pictures(str(tmp_path))
    assert own.caption == "un chien à Paris"


def test_half_a_surrogate_pair_is_no_caption(tmp_path, photo):
    (tmp_path / "a.png").write_bytes(encoded(photo))
    line = '{"file_name": "a.png", "text": "\\ud83d"}'
    (tmp_path / "metadata.jsonl").write_text(line)
    with pytest.raises(ValueError, match=r"Line 1 of .*metadata\.jsonl .*surrogate"):
        concepts.own_pictures(str(tmp_path))


def test_names_that_are_no_text_are_read(tmp_path, photo):
    name = b"dog\xff.png".decode("utf-8", "surrogateescape")
    (tmp_path / name).write_bytes(encoded(photo))
    pictures = open_files(str(tmp_path))
    assert pictures.digest()
    assert pictures.sizes().tolist() == [[24, 40]]
    folder = tmp_path / b"3_sks d\xffg".decode("utf-8", "surrogateescape")
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(photo))
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        concepts.own_pictures(str(folder))


@pytest.mark.parametrize("size", [-1, -512, -10_000])
def test_a_tar_with_a_negative_size_ends(tmp_path, photo, size):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a.png", "b.png"):
            info = tarfile.TarInfo(name)
            info.size = len(encoded(photo))
            tar.addfile(info, io.BytesIO(encoded(photo)))
    data = bytearray(path.read_bytes())
    at = data.index(b"b.png")
    data[at + 124 : at + 136] = size.to_bytes(12, "big", signed=True)
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=r"a\.tar (cannot be read as a tar|is damaged)"
    ):
        open_tars(str(path))


@pytest.mark.parametrize("damage", ["truncated", "other", "folder", "full"])
def test_sizes_are_read_again_where_their_cache_cannot_be_used(
    tmp_path, photo, monkeypatch, damage
):
    root = tmp_path / "set"
    root.mkdir()
    (root / "a.png").write_bytes(encoded(photo))
    open_files(str(root))
    (cache,) = (tmp_path / "home" / ".cache" / "personax" / "headers").iterdir()
    if damage == "truncated":
        cache.write_bytes(cache.read_bytes()[:9])
    elif damage == "other":
        cache.write_bytes(zlib.compress(b'{"a.png": ["x"], "b": 3}'))
    elif damage == "folder":
        cache.unlink()
        cache.mkdir()
    else:
        cache.unlink()

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.replace", full)
    assert open_files(str(root)).sizes().tolist() == [[24, 40]]


def test_an_error_is_not_kept_with_the_sizes(tmp_path, photo, monkeypatch):
    (tmp_path / "a.png").write_bytes(encoded(photo))
    (tmp_path / "b.png").write_bytes(encoded(photo))
    real = decoding.read_size

    def fail(file, name):
        if name == "a.png":
            raise ValueError("a.png is out of reach")
        return real(file, name)

    monkeypatch.setattr("personax.data.headers.read_size", fail)
    assert len(open_files(str(tmp_path))) == 1
    monkeypatch.setattr("personax.data.headers.read_size", real)
    assert len(open_files(str(tmp_path))) == 2

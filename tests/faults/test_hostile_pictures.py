"""Files that would take much memory or time are refused before they do."""

import io
import os
import resource
import struct
import tarfile
import time
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from personax.core import decoding, files, images
from personax.data.captioned import read_captioned
from personax.data.files import open_files
from personax.data.tars import open_tars


@pytest.fixture(autouse=True)
def bounded(tmp_path, monkeypatch):
    """Each takes seconds and less than half a gigabyte more than before."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.time()
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**19  # kB
    assert time.time() - start < 20


def chunk(kind, data):
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def png(width, height, pixels=b"", *more):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(pixels))]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*chunks, chunk(b"IEND", b"")])


SMALL = png(20, 20, (b"\0" + bytes(60)) * 20)


def gif(width, height):
    screen = struct.pack("<HHBBB", width, height, 0x80, 0, 0) + bytes(6)
    image = b"\x2c" + struct.pack("<HHHHB", 0, 0, width, height, 0)
    return b"GIF89a" + screen + image + b"\x02\x02\x4c\x01\0\x3b"


def tiff(width, height, count=1):
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8)]
    entries += [(259, 3, 1, 1), (262, 3, 1, 1), (273, 4, count, 8), (279, 4, count, 9)]
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    head = b"II*\0" + struct.pack("<IH", 8, len(entries))
    return head + packed + bytes(4)


BOMBS = {
    "png": png(60_000, 60_000),
    "gif": gif(60_000, 60_000),
    "tiff": tiff(2**31 - 1, 2**31 - 1),
    "tiff with many strips": tiff(100, 100, 2**32 - 1),
    "bmp": b"BM"
    + struct.pack("<IIIIiiHHIIiiII", 0, 0, 54, 40, 60_000, 60_000, 1, 24, *[0] * 6),
    "ppm": b"P6 60000 60000 255\n",
    "text": png(
        20, 20, bytes(1220), chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(2**26)))
    ),
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_a_decompression_bomb_is_refused(data):
    with pytest.raises(ValueError, match=r"^a\.png cannot be read as a picture"):
        decoding.decode(data, "a.png")


@pytest.mark.parametrize("kind", ["png", "gif", "tiff", "bmp", "ppm"])
def test_its_header_is_enough_for_that(kind):
    with pytest.raises(ValueError, match=r"^a\.png cannot be read as a picture"):
        decoding.read_size(io.BytesIO(BOMBS[kind]), "a.png")


def test_a_jpeg_with_thousands_of_scans_is_refused():
    file = io.BytesIO()
    Image.new("RGB", (4000, 4000)).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    scan = data[data.rindex(b"\xff\xda") : -2]
    with pytest.raises(ValueError, match=r"2,\d+ progressive scans"):
        decoding.decode(data[:-2] + 2000 * scan + data[-2:], "a.jpg")
    assert decoding.decode(data, "a.jpg").shape == (4000, 4000, 3)


def test_more_pixels_than_the_header_says_are_not_kept():
    assert decoding.decode(png(20, 20, bytes(2**28)), "a").shape == (20, 20, 3)


def test_a_member_of_a_zip_that_is_too_large_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr("personax.data.files.LARGEST_FILE", 2**20)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", SMALL)
        file.writestr("bomb.png", bytes(2**24))
    pictures = open_files(str(tmp_path / "a.zip"))
    assert len(pictures) == 1
    assert pictures.skipped == (
        "bomb.png cannot be read as a picture: it has more than 1,048,576 bytes.",
    )


def test_a_member_that_is_larger_than_it_says_is_cut_off(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.png", SMALL)
        file.writestr("bomb.png", bytes(2**28))
    size = struct.pack("<I", 2**28)
    path.write_bytes(path.read_bytes().replace(size, struct.pack("<I", 2**10)))
    assert "bomb.png cannot be read" in open_files(str(path)).skipped[0]


def test_captions_of_a_zip_that_are_too_large_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("personax.data.files.LARGEST_TEXT", 2**20)
    for name, sentence in (("a.txt", "captions in"), ("metadata.jsonl", "jsonl has")):
        with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("a.png", SMALL)
            file.writestr(name, b" " * 2**24)
        with pytest.raises(ValueError, match=f"{sentence}.* 16,777,216 bytes"):
            open_files(str(tmp_path / "a.zip"))


def test_a_zip_of_very_many_entries_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for number in range(30_000):
            file.writestr(f"{number}.txt", "")
        file.writestr("a.png", SMALL)
    assert len(open_files(str(tmp_path / "a.zip"))) == 1


def test_a_gigabyte_beside_a_picture_is_not_read(tmp_path):
    (tmp_path / "a.png").write_bytes(SMALL)
    for name in ("metadata.jsonl", "a.txt"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(2**30)  # sparse
        with pytest.raises(ValueError, match="1,073,741,824 bytes, more than any text"):
            read_captioned(tmp_path)
        (tmp_path / name).unlink()


def test_a_file_of_a_tar_that_is_too_large_is_left(tmp_path, capsys):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.png")
        info.size = len(SMALL)
        tar.addfile(info, io.BytesIO(SMALL))
    with tarfile.open(path, "a") as tar, path.open("r+b") as file:
        for name, size in (("b.png", 2**31), ("a.json", 2**30)):
            info = tarfile.TarInfo(name)
            info.size = size
            file.seek(tar.offset)
            file.write(info.tobuf(tarfile.GNU_FORMAT))
            tar.offset += 512 + size
        file.truncate(tar.offset + 1024)  # sparse
        tar.mode = "r"  # nothing more is written when it is closed
    pictures = open_tars(str(path))
    assert len(pictures) == 1
    assert pictures.picture(0).caption == ""
    assert "not read: b.png, a.json" in capsys.readouterr().err


def test_a_file_without_an_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    (tmp_path / "c.png").write_bytes(SMALL)
    assert len(open_files(str(tmp_path))) == 1
    for name in ("a.png", "b.png"):
        with pytest.raises(ValueError, match="is not a file"):
            images.read_image(tmp_path / name)


def test_large_files_are_not_read_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "LARGEST_FILE", 2**20)
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.write(SMALL)
        file.truncate(2**40)  # sparse
    with pytest.raises(ValueError, match=r"a\.png .* more than 1,048,576 bytes"):
        images.read_image(path)


def test_json_that_is_nested_deeply_is_refused():
    with pytest.raises(ValueError, match="nested too deeply"):
        files.decode_json("[" * 10**6, "a.json")


def test_large_pictures_of_a_camera_are_read(monkeypatch):
    # Of 144 million pixels; a smaller bound takes the same way in less time.
    monkeypatch.setattr(decoding, "MOST_PIXELS", 4_000_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    data = png(1100, 1100, (b"\0" + bytes(3300)) * 1100)
    np.testing.assert_array_equal(decoding.decode(data, "a")[::100, ::100], 0)

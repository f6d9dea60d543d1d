"""Files of pictures to upright 8-bit pixels, with Pillow.

Its decoders raise errors of nearly every type for damaged files. They are all turned
into one ValueError here, which names the file.
"""

import contextlib
import functools
import importlib
import io
import os
import pathlib
import re
import struct
import threading
import warnings
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, JpegImagePlugin, TiffImagePlugin, UnidentifiedImageError

Pixels = UInt8[np.ndarray, "_ _ 3"]  # rows, columns, red green blue
Mask = UInt8[np.ndarray, "_ _"]  # 255 where a pixel counts fully

# Pillow's names of formats for whole pictures. Its others describe documents, icons or
# textures, or are read by other programs, as EPS is by Ghostscript. HEIF needs
# pillow-heif.
FORMATS = (
    *("PNG", "JPEG", "MPO", "WEBP", "AVIF", "HEIF", "GIF", "TIFF", "BMP", "DIB"),
    *("JPEG2000", "PPM", "TGA", "QOI", "PCX", "SGI"),
)
MOST_PIXELS = 178_956_970  # Pillow's own limit, about 13,377 x 13,377
LARGEST_FILE = 2**30  # bytes, about what 16-bit RGB of the most pixels has
_MOST_SCANS = 500
_ALPHA_NOISE = 8  # of 255: lossy formats vary an opaque picture's alpha by less
PREFIX = 2**17  # bytes, which hold nearly every header


@functools.cache
def suffixes() -> frozenset[str]:
    """Of the files that are read, as ".png"."""
    known = Image.registered_extensions().items()
    readable = _formats()
    return frozenset(suffix for suffix, name in known if name in readable)


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    with contextlib.suppress(ImportError):
        importlib.import_module("pillow_heif").register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def is_picture(name: str) -> bool:
    """Whether a file's name is a picture's."""
    # A leading dot marks what a file system left behind, such as ._photo.jpg.
    base = name.rpartition("/")[2]
    suffix = os.path.splitext(base)[1]
    return suffix.lower() in suffixes() and not base.startswith(".")


def decode(data: bytes, name: object, *, smallest: int = 16) -> Pixels:
    """A picture file's first frame: upright, RGB, transparency over white.

    16-bit values are divided by 256; 32-bit and float values are scaled from the range
    that they plainly have, see `scale`. Raises ValueError, with `name`, for data that
    cannot be read, has more than MOST_PIXELS, or has a side below `smallest`.
    """
    with reading(name):
        image = _load(data)
        if image.has_transparency_data:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image)
        pixels = np.array(image if image.mode == "RGB" else image.convert("RGB"))
    height, width = pixels.shape[:2]
    if min(height, width) < smallest:
        raise ValueError(too_small(name, height, width, smallest))
    return pixels


def decode_mask(data: bytes, name: object) -> tuple[Mask, bool]:
    """A mask file's values, and whether they are those of its alpha channel.

    They are where that varies; else its luminance counts. Raises what `decode` raises.
    """
    with reading(name):
        image = _load(data)
        if image.has_transparency_data:
            alpha = np.array(image.convert("RGBA").getchannel("A"))
            if int(alpha.max()) - int(alpha.min()) > _ALPHA_NOISE:
                return alpha, True
            image = image.convert("RGBA")
        return np.array(image.convert("RGB").convert("L")), False


def verify(data: bytes, name: object) -> None:
    """Raise ValueError for a file without a readable header or with wrong checksums."""
    with reading(name), _open(data) as image:
        image.verify()


def read_size(file: io.BufferedIOBase, name: object) -> tuple[int, int]:
    """(height, width) of the upright picture, from its header.

    A PNG's EXIF may follow its pixels, and then does not count. Raises ValueError, with
    `name`, for a file that cannot be read.
    """
    with reading(name):
        data = file.read(PREFIX)
        try:
            image = _open(data)
        except Exception:
            # Its header may be longer, or at the end, as a TIFF's may. One at a time:
            # a small archive may hold many of the largest size.
            with _whole_file:
                data += file.read(LARGEST_FILE + 1 - len(data))
                image = _open(data)
        with image:
            width, height = image.size
            # Pillow's size of a TIFF is already that of the upright picture.
            tiff = isinstance(image, TiffImagePlugin.TiffImageFile)
            turned = not tiff and _orientation(image) >= 5
    return (width, height) if turned else (height, width)


def too_small(name: object, height: int, width: int, smallest: int) -> str:
    """The message for a picture with a side below `smallest`."""
    return f"{name} is {width}x{height} pixels; both sides must have {smallest}."


def read_file(path: pathlib.Path) -> bytes:
    """The content of a picture's file.

    Raises FileNotFoundError where there is none, and ValueError for a folder, a device,
    or a file that cannot be read or is larger than LARGEST_FILE.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a picture.")
    if not path.exists():
        raise FileNotFoundError(f"The picture {path} does not exist.")
    if not path.is_file():  # a pipe would be waited for, a device may have no end
        raise ValueError(f"{path} is not a file.")
    with reading(path), path.open("rb") as file:
        return file.read(LARGEST_FILE + 1)


def unreadable(name: object, error: BaseException) -> ValueError:
    """The error for a picture that cannot be read for the reason of another error."""
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, KeyError):  # whose text is the key alone
        reason = f"KeyError {reason}"
    if isinstance(error, UnidentifiedImageError):  # which names an object of Python
        reason = "it is damaged or of no format that is read"
    return ValueError(f"{name} cannot be read as a picture: {reason}.")


@contextlib.contextmanager
def reading(name: object) -> Iterator[None]:
    """Raise any error of a decoder or an archive as ValueError; see `unreadable`."""
    try:
        yield
    except Exception as error:  # decoders raise errors of any type
        raise unreadable(name, error) from error


def _load(data: bytes) -> Image.Image:
    """The upright first frame, with 8 bits per channel."""
    with _open(data) as image:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            # It would turn the picture, for which it reads every tag.
            setattr(image, "load_end", lambda: None)  # noqa: B010
        # Also bounds the memory of several threads.
        large = image.width * image.height > MOST_PIXELS // 4
        with _quiet() if large else contextlib.nullcontext():
            image.load()
        turn = _TURNS.get(_orientation(image))
        upright = image if turn is None else image.transpose(turn)
        if upright.mode not in ("I", "F") and not upright.mode.startswith("I;16"):
            return upright
        # Values that convert("RGB") would clip.
        values, tags = np.asarray(upright), getattr(image, "tag_v2", {})
        if upright.mode == "F" or (upright.mode == "I" and tags):
            return Image.fromarray(scale(_values(image, values)))
        (bits, *_) = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))
        return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _open(data: bytes) -> Image.Image:
    """Pillow's image of a file's content, whose pixels are not read yet."""
    if not data:
        raise ValueError("it is empty")
    if len(data) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    file = io.BytesIO(data)
    with _quiet():
        if data.startswith(b"\xff\xd8\xff"):
            # Image.open also looks for further frames, and fails where it is misled.
            image = JpegImagePlugin.JpegImageFile(file)
            # Each scan takes a pass over all pixels; encoders write about ten.
            scans = data.count(b"\xff\xda") if "progressive" in image.info else 0
            if scans > _MOST_SCANS:
                raise ValueError(f"it has {scans:,} progressive scans")
        else:
            image = Image.open(file, formats=_formats())
    if image.width * image.height > MOST_PIXELS:
        raise ValueError(
            f"its {image.width}x{image.height} pixels are more than {MOST_PIXELS:,}"
        )
    return image


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without Pillow's warnings of large pictures and of tags that are not read here.

    Filters belong to the process: one thread at a time may replace them.
    """
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


_filters, _whole_file = threading.Lock(), threading.Lock()

_ORIENTATION = 0x0112  # EXIF's
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    """EXIF's or XMP's orientation from 1 to 8; 1 where there is none.

    Nothing else of the blocks is read: a picture with damaged ones is still good.
    """
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            value = image.tag_v2.get(_ORIENTATION)
        else:
            value = _exif_orientation(_exif(image)) or _xmp_orientation(image)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _exif(image: Image.Image) -> bytes:
    profile = image.info.get("Raw profile type exif")  # ImageMagick's in a PNG
    if "exif" in image.info or profile is None:
        return image.info.get("exif", b"")
    with contextlib.suppress(ValueError):
        return bytes.fromhex("".join(profile.split("\n")[3:]))
    return b""


def _exif_orientation(exif: bytes) -> int | None:
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return None
    with contextlib.suppress(struct.error):  # of a block that is cut off
        (start,) = struct.unpack_from(f"{order}I", tiff, 4)
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, place)
            if tag == _ORIENTATION:
                number = "I" if kind == 4 else "H"
                return struct.unpack_from(f"{order}{number}", tiff, place + 8)[0]
    return None


def _xmp_orientation(image: Image.Image) -> int | None:
    text = image.info.get("XML:com.adobe.xmp") or image.info.get("xmp") or b""
    text = text.encode() if isinstance(text, str) else text
    match = re.search(rb'tiff:Orientation(?:="|>)([0-9])', text)
    return int(match[1]) if match else None


def _values(image: Image.Image, values: np.ndarray) -> np.ndarray:
    """The values of a 32-bit picture, whose sign Pillow does not know."""
    signed = 2  # TIFF's SampleFormat
    tags = getattr(image, "tag_v2", {})
    if image.mode == "I" and tags.get(TiffImagePlugin.SAMPLEFORMAT, (1,)) != (signed,):
        return values.view(np.uint32)
    return values


def scale(
    values: Int[np.ndarray, "h w"] | Float[np.ndarray, "h w"],
) -> UInt8[np.ndarray, "h w"]:
    """32-bit or float values as uint8.

    The largest says of which range they are: of floats 0 to 1, 0 to 255 where it is
    above 16, or 0 to 65535; of integers 0 to 255, to 65535, or 32 bits from 2^24 on.
    Raises ValueError for any other range, for negative values and for those that are
    not finite.
    """
    low, high = values.min(), values.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("it has values that are not finite")
    whole = np.issubdtype(values.dtype, np.integer)
    if low >= 0 and high <= 1 and not whole:
        return np.round(255 * values).astype(np.uint8)
    if low >= 0 and high <= 255 and (whole or high > 16):
        return np.round(values).astype(np.uint8)
    if low >= 0 and high <= 65535 and (whole or high > 16):
        return (values // 256).astype(np.uint8)
    if low >= 0 and high >= 2**24 and whole:
        return (values // 2**24).astype(np.uint8)
    expected = "to 255, to 65535 or of 32 bits" if whole else "to 1, to 255 or to 65535"
    raise ValueError(f"its values are {low:g} to {high:g}; expected 0 {expected}")

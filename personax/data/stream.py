"""A large set as a dataset: its pictures in an endless order, read step by step."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from personax.core.errors import RunFailedError
from personax.core.images import Pixels
from personax.data.augment import crop_box
from personax.data.dataset import Dataset, Rows
from personax.data.latents import LatentReader
from personax.data.order import Order
from personax.data.picture import Picture, PictureSet
from personax.data.templates import without


class CaptionPolicy(NamedTuple):
    """Captions of a large set: one of `prompts`, or () for the set's own."""

    prompts: tuple[str, ...] = ()
    dropout: float = 0.0  # probability of the empty caption
    phrase: str = ""  # the concept's words in the captions
    class_word: str = ""  # what replaces them in plain captions

    def choose(self, rng: np.random.Generator) -> str | None:
        """A caption, or None for the set's own."""
        dropped = rng.random() < self.dropout
        count = len(self.prompts)
        prompt = self.prompts[rng.integers(count)] if count else None
        return "" if dropped else prompt


@dataclasses.dataclass(frozen=True, eq=False)
class PictureReader:
    """A reader of pictures: uint8 "pixels" of one size, randomly mirrored and cropped.

    A picture that cannot be read is replaced by the next one in the set that can, with
    a message in "skipped". With buckets (`bucket_of` each picture, of several `sizes`)
    a batch has the size of its first picture's bucket. With `hint` "canny" there are
    "hint" edges, uint8 in {0, 255}.
    """

    pictures: PictureSet
    sizes: Sequence[tuple[int, int]]  # (height, width)
    _: dataclasses.KW_ONLY
    bucket_of: np.ndarray | None = None
    crop: str = "centre"
    flip: bool = False
    hint: str = ""

    has_text = False

    def contents(self) -> str:
        return self.pictures.contents()

    @property
    def skipped(self) -> Sequence[str]:
        return self.pictures.skipped

    def read(self, numbers: Sequence[int], rngs: Sequence[np.random.Generator]) -> Rows:
        first = 0 if self.bucket_of is None else self.bucket_of[numbers[0]]
        size = self.sizes[first]
        skipped: list[str] = []
        pixels, captions = [], []
        for number, rng in zip(numbers, rngs, strict=True):
            picture = _read_or_next(self.pictures, number, skipped)
            mirrored = self.flip and rng.random() < 0.5
            part = _crop_and_resize(rng, picture.pixels, size, self.crop)
            pixels.append(part[:, ::-1] if mirrored else part)
            captions.append(picture.caption)
        rows: Rows = {
            "pixels": np.stack(pixels),
            "caption": captions,
            "skipped": skipped,
        }
        if self.hint:
            from personax.data.edges import canny

            edges = [canny(np.ascontiguousarray(each)) for each in pixels]
            rows["hint"] = np.stack(edges)[..., None]
        return rows

    def deterministic(self) -> "PictureReader":
        """The reader without random flips and crops."""
        crop = "centre" if self.crop == "random" else self.crop
        return dataclasses.replace(self, crop=crop, flip=False)

    def preview(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """The pictures as they are trained on, uint8."""
        # All of the first size, in the same random order of crops for any buckets.
        reader = dataclasses.replace(self, bucket_of=None, flip=False, hint="")
        rngs = [np.random.default_rng(0)] * len(numbers)
        return list(reader.read(numbers, rngs)["pixels"])


class Stream(Dataset):
    """The pictures of a reader in an order, endlessly.

    `local` are the rows of every step that this process reads.
    """

    def __init__(
        self,
        reader: PictureReader | LatentReader,
        order: Order,
        policy: CaptionPolicy = CaptionPolicy(),
        *,
        local: range,
        workers: int = 0,
        digest: str = "",
    ):
        self.reader, self.order, self.policy, self.local = reader, order, policy, local
        self.workers, self.digest = workers, digest
        self.rows_per_step, self.has_text = order.rows, reader.has_text
        self.first_row = local.start
        self.skipped = reader.skipped
        if policy.prompts:
            dropped = [""] if policy.dropout else []
            self.captions = tuple(dict.fromkeys((*policy.prompts, *dropped)))

    def step(self, step: int) -> Rows:
        """This process's rows of a step."""
        return self._read(self.order.step(step), [self.order.seed, step, 2])

    def preview(self, count: int) -> list[np.ndarray]:
        steps = range(-(-count // self.order.rows))
        numbers = np.concatenate([self.order.step(step) for step in steps])
        return self.reader.preview([int(number) for number in numbers[:count]])

    def fingerprint(self) -> dict[str, str]:
        contents = self.reader.contents()
        own = {"stream contents": contents} if contents else {}
        return {"stream": self.digest, **own}

    def _read(self, numbers: Int[np.ndarray, " b"], seed: list[int]) -> Rows:
        rngs = [np.random.default_rng([*seed, row]) for row in self.local]
        chosen = [self.policy.choose(rng) for rng in rngs]
        local = numbers[self.local.start : self.local.stop]
        rows = self.reader.read([int(number) for number in local], rngs)
        pairs = zip(chosen, rows["caption"], strict=True)
        captions = [own if caption is None else caption for caption, own in pairs]
        phrase, class_word = self.policy.phrase, self.policy.class_word
        plain = [without(caption, phrase, class_word) for caption in captions]
        return {**rows, "caption": captions, "plain": plain}


class HeldOut(Stream):
    """The held-out pictures of a stream, unaugmented, with its first prompt."""

    def __init__(self, stream: Stream):
        prompts = stream.policy.prompts[:1]
        super().__init__(
            stream.reader.deterministic(),
            stream.order,
            stream.policy._replace(prompts=prompts, dropout=0.0),
            local=stream.local,
        )
        self._batches = self.order.held_out_batches()
        self.steps = len(self._batches)
        # The stream's: what is encoded together decides the last bits.
        self.captions = stream.captions

    def step(self, step: int) -> Rows:
        return self._read(self._batches[step], [self.order.seed, 0, 3])


def read_chunks(
    reader: PictureReader, chunks: Sequence[Sequence[int]], workers: int = 0
) -> Iterator[list[Mapping[str, Any]]]:
    """The pictures of each chunk by number, fitted by the reader without randomness.

    Each is {"pixels", "caption", "bucket"}, or {"skipped": message} where it cannot be
    read.
    """
    from personax.data.prefetch import prefetch

    def read(number: int) -> Mapping[str, Any]:
        try:
            picture = reader.pictures.picture(number)
        except ValueError as error:
            return {"skipped": str(error)}
        bucket = 0 if reader.bucket_of is None else int(reader.bucket_of[number])
        rng = np.random.default_rng(0)
        size = reader.sizes[bucket]
        pixels = _crop_and_resize(rng, picture.pixels, size, reader.crop)
        return {"pixels": pixels, "caption": picture.caption, "bucket": bucket}

    def read_chunk(i: int) -> list[Mapping[str, Any]]:
        return [read(number) for number in chunks[i]]

    return iter(prefetch(read_chunk, range(len(chunks)), workers))


_MAX_UNREADABLE = 100  # in a row


def _read_or_next(pictures: PictureSet, number: int, skipped: list[str]) -> Picture:
    """Picture `number`, or the next one that can be read.

    Appends a message to `skipped` for each before it. Raises RunFailedError after a
    hundred in a row that cannot be read.
    """
    tries = min(_MAX_UNREADABLE, len(pictures))
    for offset in range(tries):
        try:
            return pictures.picture((number + offset) % len(pictures))
        except ValueError as error:
            skipped.append(str(error))
    raise RunFailedError(f"{tries} pictures in a row cannot be read: {skipped[-1]}")


def _crop_and_resize(
    rng: np.random.Generator, pixels: Pixels, size: tuple[int, int], crop: str
) -> UInt8[np.ndarray, "height width 3"]:
    """The part of the picture that `crop` keeps, resized to (height, width)."""
    if pixels.shape[:2] == size:
        return pixels
    box = crop_box(rng, pixels.shape[:2], size, crop)
    image = Image.fromarray(pixels)
    height, width = size
    part = image.resize(
        (width, height), Image.Resampling.BICUBIC, box, reducing_gap=3.0
    )
    return np.asarray(part)

"""An endless stream of batches from a large set, decoded ahead by Grain."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from personax.core.images import Pixels
from personax.data.augment import crop_box
from personax.data.order import Order
from personax.data.picture import PictureSet

HINTS = ("", "canny")

# What a batch holds: arrays of its rows, captions, and "skipped" sentences.
Rows = dict[str, Any]
_LAST = 1 << 40  # steps


@runtime_checkable
class Reader(Protocol):
    """What becomes of the pictures of a batch's rows, each with dice of its own."""

    def read(
        self, numbers: Sequence[int], rngs: Sequence[np.random.Generator]
    ) -> Rows: ...

    def still(self) -> "Reader":
        """The reader without chance."""
        ...


class CaptionPolicy(NamedTuple):
    """What pictures are called: one of `prompts`, or () for what the set says."""

    prompts: tuple[str, ...] = ()
    dropout: float = 0.0  # how often the caption is the empty one


class Stream:
    """The batches of a reader in an order; `Stream(...).batches(step)` goes on there.

    A step is a function of its number and of the order's seed, whatever the number of
    workers and of processes: `rows` are the ones of every step that this process reads.
    """

    def __init__(
        self,
        reader: Reader,
        order: Order,
        words: CaptionPolicy = CaptionPolicy(),
        *,
        rows: range,
    ):
        self.reader, self.order, self.words, self.rows = reader, order, words, rows

    def step(self, step: int) -> Rows:
        """This process's rows of a step, and the "caption" of each."""
        numbers = self.order.step(step)
        return self._read(numbers, [self.order.seed, step, 2])

    def held_out(self) -> list[Rows]:
        """The pictures that no step sees, in as many batches as they need.

        They are what they are: not mirrored, cut out of the middle, called by the first
        prompt.
        """
        words = CaptionPolicy(self.words.prompts[:1])
        still = Stream(self.reader.still(), self.order, words, rows=self.rows)
        seed = [self.order.seed, 0, 3]
        return [still._read(each, seed) for each in self.order.held_out_batches()]

    def _read(self, numbers: Int[np.ndarray, " b"], seed: list[int]) -> Rows:
        rngs = [np.random.default_rng([*seed, row]) for row in self.rows]
        said = [_say(self.words, rng) for rng in rngs]
        own = numbers[self.rows.start : self.rows.stop]
        found = self.reader.read([int(number) for number in own], rngs)
        pairs = zip(said, found["caption"], strict=True)
        return {**found, "caption": [b if a is None else a for a, b in pairs]}

    def batches(
        self,
        first: int,
        *,
        workers: int = 0,
        then: Callable[[Rows], Any] = lambda rows: rows,
    ) -> "Batches":
        """Steps `first`, `first` + 1, …, read ahead by that many other processes.

        Without any, by threads of this one. `then` is done to each batch in a thread of
        this process, two batches ahead.
        """
        # Here, as Grain takes seconds and few pictures need none of it.
        from personax.data.prefetch import by_thread, prefetch

        found = prefetch(self.step, range(first, _LAST), workers)
        return Batches(by_thread(found.map(then), 2), first)


def _say(words: CaptionPolicy, rng: np.random.Generator) -> str | None:
    """The row's caption, or None for the set's own."""
    dropped = rng.random() < words.dropout
    number = len(words.prompts)
    chosen = words.prompts[rng.integers(number)] if number else None
    return "" if dropped else chosen


class Batches(Iterator[Any]):
    """An iterator that knows which step comes next; to be closed."""

    def __init__(self, found: Iterable[Any], first: int):
        self.next_step = first
        self._iterator = iter(found)

    def __next__(self) -> Any:
        found = next(self._iterator)
        self.next_step += 1
        return found

    def close(self) -> None:
        """Ends the workers."""
        self._iterator.close()
        del self._iterator


class Pictures:
    """A reader of pictures: uint8 "pixels" of one size, mirrored and cropped by chance.

    A picture that cannot be read is replaced by the next one in the set that can, and
    "skipped" says so. With buckets (`bucket_of` each picture, of several `sizes`) a
    batch has the size of its first picture's. With `hint` "canny" there are "hint"
    edges, uint8 in {0, 255}.
    """

    def __init__(
        self,
        pictures: PictureSet,
        sizes: Sequence[tuple[int, int]],
        *,
        bucket_of: np.ndarray | None = None,
        crop: str = "centre",
        flip: bool = False,
        hint: str = "",
    ):
        self.pictures, self.sizes, self.bucket_of = pictures, tuple(sizes), bucket_of
        self.crop, self.flip, self.hint = crop, flip, hint

    def read(self, numbers: Sequence[int], rngs: Sequence[np.random.Generator]) -> Rows:
        first = 0 if self.bucket_of is None else self.bucket_of[numbers[0]]
        size, skipped = self.sizes[first], []
        pixels, captions = [], []
        for number, rng in zip(numbers, rngs, strict=True):
            picture = next_good(self.pictures, number, skipped)
            mirrored = self.flip and rng.random() < 0.5
            shown = fit(rng, picture.pixels, size, self.crop)
            pixels.append(shown[:, ::-1] if mirrored else shown)
            captions.append(picture.caption)
        found = {"pixels": np.stack(pixels), "caption": captions, "skipped": skipped}
        return {**found, **self._hint(pixels)}

    def still(self) -> "Pictures":
        crop = "centre" if self.crop == "random" else self.crop
        bucket_of, hint = self.bucket_of, self.hint
        return Pictures(
            self.pictures, self.sizes, bucket_of=bucket_of, crop=crop, hint=hint
        )

    def _hint(self, pixels: Sequence[Pixels]) -> Mapping[str, Any]:
        if not self.hint:
            return {}
        from personax.data.edges import canny

        edges = [canny(np.ascontiguousarray(each)) for each in pixels]
        return {"hint": np.stack(edges)[..., None]}


_PATIENCE = 100


def next_good(pictures: PictureSet, number: int, skipped: list[str]):
    """Picture `number`, or the next one that can be read; `skipped` gets a sentence
    about each before it.

    Raises ValueError where a hundred in a row cannot.
    """
    for prefetch in range(min(_PATIENCE, len(pictures))):
        try:
            return pictures.picture((number + prefetch) % len(pictures))
        except ValueError as error:
            skipped.append(str(error))
    raise ValueError(f"{prefetch + 1} pictures in a row cannot be read: {skipped[-1]}")


def fit(
    rng: np.random.Generator, pixels: Pixels, size: tuple[int, int], crop: str
) -> UInt8[np.ndarray, "h w 3"]:
    """The part of the picture that `crop` keeps, resized to (height, width)."""
    if pixels.shape[:2] == size:
        return pixels
    box = crop_box(rng, pixels.shape[:2], size, crop)
    image = Image.fromarray(pixels)
    shown = image.resize(size[::-1], Image.Resampling.BICUBIC, box, reducing_gap=3.0)
    return np.asarray(shown)


def one_after_another(
    reader: Pictures, chunks: Sequence[Sequence[int]], workers: int = 0
) -> Iterator[list[Mapping[str, Any]]]:
    """Each chunk's pictures by number, as the reader fits them, without chance.

    {"pixels", "caption", "bucket"}, or {"skipped": a sentence} where one cannot be
    read.
    """
    from personax.data.prefetch import prefetch

    def look(number: int) -> Mapping[str, Any]:
        try:
            picture = reader.pictures.picture(number)
        except ValueError as error:
            return {"skipped": str(error)}
        bucket = 0 if reader.bucket_of is None else int(reader.bucket_of[number])
        rng = np.random.default_rng(0)
        pixels = fit(rng, picture.pixels, reader.sizes[bucket], reader.crop)
        return {"pixels": pixels, "caption": picture.caption, "bucket": bucket}

    def looks(i: int) -> list[Mapping[str, Any]]:
        return [look(number) for number in chunks[i]]

    return iter(prefetch(looks, range(len(chunks)), workers))

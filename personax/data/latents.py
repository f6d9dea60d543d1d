"""A cache of a large set's latents, and of its encoded captions, in array_record."""

import dataclasses
import functools
import json
import math
import pathlib
import struct
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from personax.core.config import LARGEST_SIDE, option, parse
from personax.core.files import (
    atomic_write,
    digest,
    digest_contents,
    expand,
    read_json,
    write_json,
    write_text,
)
from personax.data.dataset import Rows

FORMAT = 1
_WRITER = "group_size:1,uncompressed"  # records are read one by one
_READER = {"index_storage_option": "in_memory"}
_HEAD = struct.Struct("<B")  # the bucket
_SHARDS = 10**6  # of a cache
_TRIED = 100  # records in place of a damaged one
_REMEDY = (
    "Run the python -m personax.cache that wrote it again: it writes what is damaged."
)


@dataclasses.dataclass(frozen=True)
class About:
    """The content of a cache and how it was computed: cache.json."""

    source: str
    split: str
    pictures: str  # the set's digest
    captioned: bool
    count: int  # pictures of the set, unreadable ones included
    sizes: tuple[tuple[int, int], ...]  # (height, width) in pixels, of each bucket
    buckets: int  # multiple of their sides; 0: one size
    crop: str
    flip: bool  # whether it holds latents of mirrored pictures, too
    vae: str  # the autoencoder's fingerprint
    dtype: str  # of the computation
    factor: int
    channels: int
    shard: int  # pictures of the set that a file covers
    text_encoder: str = ""  # the fingerprint of the captions' encoder, if any
    text: tuple[int, int] = (0, 0)  # (tokens, width)
    format: int = FORMAT

    @property
    def shards(self) -> int:
        return math.ceil(self.count / self.shard)

    @property
    def names(self) -> list[str]:
        """The names of the shards' files, without suffix."""
        return [f"{i:05d}-of-{self.shards:05d}" for i in range(self.shards)]

    def latent(self, bucket: int) -> tuple[int, int, int]:
        height, width = self.sizes[bucket]
        return height // self.factor, width // self.factor, self.channels


class Record(NamedTuple):
    """One picture: its posteriors, and of its mirror image, float16; its caption."""

    bucket: int
    posteriors: Float[np.ndarray, "m 2 h w c"]  # mean and logvar of each
    caption: str
    text: Float[np.ndarray, "n d"] | None = None  # float16, where the cache has text
    ids: Int[np.ndarray, " n"] | None = None


class Shard(NamedTuple):
    """The index of a shard, in a .json file beside it."""

    buckets: list[int]  # of each of its records
    skipped: list[str]  # a message for each picture that could not be read
    size: int = 0  # bytes of the shard; 0: not known, as in caches of before
    digest: str = ""  # of its content


def pack(record: Record) -> bytes:
    parts = [_HEAD.pack(record.bucket), record.posteriors.tobytes()]
    if record.text is not None:
        assert record.ids is not None
        parts += [record.text.tobytes(), record.ids.astype(np.uint16).tobytes()]
    return b"".join([*parts, record.caption.encode()])


def unpack(about: About, data: bytes) -> Record:
    (bucket,) = _HEAD.unpack_from(data)
    at = _HEAD.size

    def take(dtype: Any, *shape: int) -> np.ndarray:
        nonlocal at
        count = math.prod(shape)
        array = np.frombuffer(data, dtype, count, at).reshape(shape)
        at += array.nbytes
        return array

    copies = 2 if about.flip else 1
    posteriors = take(np.float16, copies, 2, *about.latent(bucket))
    text = ids = None
    if about.text_encoder:
        text = take(np.float16, *about.text)
        ids = take(np.uint16, about.text[0]).astype(np.int32)
    return Record(bucket, posteriors, data[at:].decode(), text, ids)


def claim(folder: pathlib.Path, about: About) -> None:
    """Write cache.json, or check an existing one.

    Raises ValueError, with the differences, where the folder holds another cache.
    """
    file = folder / "cache.json"
    if file.is_file():
        before = dataclasses.asdict(_read(file))
        changed = [
            f"{key} was {before[key]!r} and is {value!r}"
            for key, value in dataclasses.asdict(about).items()
            if before[key] != value
        ]
        if changed:
            raise ValueError(
                f"{folder} holds another cache: {'; '.join(changed)}. Choose another "
                "--out."
            )
        return
    write_json(file, dataclasses.asdict(about))


def missing(folder: pathlib.Path, about: About) -> list[int]:
    """The shards that are not written yet."""
    written = {path.name for path in folder.glob("*.array_record")}
    names = enumerate(about.names)
    return [i for i, name in names if f"{name}.array_record" not in written]


def remove_damaged(
    folder: pathlib.Path, about: About, part: tuple[int, int] = (0, 1)
) -> list[str]:
    """Remove the shards that are not as they were written; what was wrong with each.

    They are `missing` afterwards, and written again. `part` is this process and the
    number of processes, which have the shards in turn. A shard of an earlier version
    has no digest; its index alone is checked.
    """
    errors = []
    for name in about.names[part[0] :: part[1]]:
        path = folder / f"{name}.array_record"
        if not path.is_file():
            continue
        try:
            shard = _read_shard(path, about)
            if shard.digest and shard.digest != digest_contents([path]):
                raise ValueError(f"{path} is damaged: its content has changed.")
        except ValueError as error:
            errors.append(str(error))
            path.unlink()
    return errors


def write_shard(
    folder: pathlib.Path,
    about: About,
    shard: int,
    records: Iterable[Record],
    skipped: Sequence[str],
) -> None:
    """Write a shard atomically, after its index."""
    from array_record.python.array_record_module import ArrayRecordWriter

    name, buckets = about.names[shard], []
    with atomic_write(folder / f"{name}.array_record") as temporary:
        writer = ArrayRecordWriter(str(temporary), _WRITER)
        for record in records:
            writer.write(pack(record))
            buckets.append(record.bucket)
        writer.close()
        size, content = temporary.stat().st_size, digest_contents([temporary])
        index = Shard(buckets, list(skipped), size, content)
        write_text(folder / f"{name}.json", json.dumps(index._asdict()) + "\n")


class Latents:
    """An opened cache; its pictures are the readable ones, in the set's order.

    Raises FileNotFoundError for a folder without a cache, ValueError for an unfinished
    one.
    """

    def __init__(self, folder: str | pathlib.Path):
        self.folder = expand(folder)
        if not (self.folder / "cache.json").is_file():
            raise FileNotFoundError(
                f"{folder} holds no cache.json; python -m personax.cache writes one."
            )
        self.about = _read(self.folder / "cache.json")
        unwritten = missing(self.folder, self.about)
        if unwritten:
            shards = self.about.shards
            raise ValueError(
                f"{folder} is unfinished: {shards - len(unwritten)} of {shards} shards "
                "are written. Rerun the command that began it."
            )
        paths = [self.folder / f"{name}.array_record" for name in self.about.names]
        shards = [_read_shard(path, self.about) for path in paths]
        self.buckets = np.array([b for shard in shards for b in shard.buckets], int)
        self.skipped = tuple(s for shard in shards for s in shard.skipped)
        self._files = [str(path) for path in paths]
        self._ends = np.cumsum([len(shard.buckets) for shard in shards])

    def __reduce__(self):
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return len(self.buckets)

    def records(self, numbers: Sequence[int]) -> list[Record]:
        """Raises ValueError, with the shard, where the cache is damaged."""
        try:
            records = self._records.__getitems__(list(numbers))
            return [unpack(self.about, data) for data in records]
        # array_record raises RuntimeError for checksums that do not match.
        except (RuntimeError, ValueError, IndexError, struct.error) as error:
            which = {int(np.searchsorted(self._ends, n, "right")) for n in numbers}
            paths = ", ".join(self._files[i] for i in sorted(which))
            raise ValueError(f"{paths}: damaged ({error}). {_REMEDY}")

    @functools.cached_property
    def _records(self) -> Any:
        from array_record.python.array_record_data_source import ArrayRecordDataSource

        return ArrayRecordDataSource(self._files, reader_options=_READER)

    def digest(self) -> str:
        return digest(json.dumps([dataclasses.asdict(self.about), self.skipped]))

    def contents(self) -> str:
        return digest_contents(map(pathlib.Path, self._files))


@dataclasses.dataclass(frozen=True, eq=False)
class LatentReader:
    """Reads "mean" and "logvar", and with `has_text` also "text" and "ids"."""

    latents: Latents
    flip: bool = False
    has_text: bool = False

    def contents(self) -> str:
        return self.latents.contents()

    @property
    def skipped(self) -> Sequence[str]:
        return self.latents.skipped

    def read(self, numbers: Sequence[int], rngs: Sequence[np.random.Generator]) -> Rows:
        skipped: list[str] = []
        try:
            records = self.latents.records(numbers)
        except ValueError:
            records = [self._read_or_next(number, skipped) for number in numbers]
        mirrored = [int(self.flip and rng.random() < 0.5) for rng in rngs]
        pairs = zip(records, mirrored, strict=True)
        posteriors = np.stack([record.posteriors[i] for record, i in pairs])
        rows: Rows = {
            "mean": posteriors[:, 0],
            "logvar": posteriors[:, 1],
            "caption": [record.caption for record in records],
            "skipped": skipped,
        }
        for name in ("text", "ids") if self.has_text else ():
            rows[name] = np.stack([getattr(record, name) for record in records])
        return rows

    def _read_or_next(self, number: int, skipped: list[str]) -> Record:
        """The record, or the next whole one of its size; ValueError without one."""
        latents, error = self.latents, None
        alike = np.flatnonzero(latents.buckets == latents.buckets[number])
        first = int(np.searchsorted(alike, number))
        for other in np.roll(alike, -first)[:_TRIED]:
            try:
                return latents.records([int(other)])[0]
            except ValueError as found:
                error = found
                skipped.append(str(found))
        raise error or ValueError(f"{latents.folder} holds no picture.")

    def deterministic(self) -> "LatentReader":
        """The reader without random flips."""
        return dataclasses.replace(self, flip=False)

    def preview(self, numbers: Sequence[int]) -> list[np.ndarray]:
        """The means of the latents, float16."""
        return [record.posteriors[0, 0] for record in self.latents.records(numbers)]


def _read_shard(path: pathlib.Path, about: About) -> Shard:
    """The index of a shard. Raises ValueError, with its file, for a damaged one."""
    file = path.with_suffix(".json")
    try:
        shard = parse(_Index, read_json(file))
        if not all(0 <= bucket < len(about.sizes) for bucket in shard.buckets):
            raise ValueError
        if len(shard.buckets) > about.shard:
            raise ValueError
    except (ValueError, TypeError, FileNotFoundError):
        raise ValueError(f"{file} is damaged. {_REMEDY}")
    size = path.stat().st_size
    if shard.size not in (0, size):
        raise ValueError(
            f"{path} has {size} bytes instead of {shard.size}: it is damaged. {_REMEDY}"
        )
    return Shard(
        list(shard.buckets), list(shard.skipped), shard.size or 0, shard.digest
    )


@dataclasses.dataclass(frozen=True)
class _Index:
    """A shard's index, as `parse` checks it."""

    buckets: tuple[int, ...]
    skipped: tuple[str, ...]
    size: int = option(0, least=0)
    digest: str = ""


def _read(file: pathlib.Path) -> About:
    try:
        about = parse(About, read_json(file))
        sides = [side for size in about.sizes for side in size]
        numbers = [*sides, about.channels, about.factor]
        if about.format != FORMAT or not about.sizes:
            raise ValueError
        if not all(0 < number <= LARGEST_SIDE for number in numbers):
            raise ValueError
        if about.count < 1 or about.shard < 1 or about.shards > _SHARDS:
            raise ValueError
        if not all(0 <= each <= LARGEST_SIDE for each in about.text):
            raise ValueError
    except (ValueError, TypeError, AttributeError):
        raise ValueError(f"{file} is not a cache of this version; write another.")
    return about

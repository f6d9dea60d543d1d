"""Writing a cache of a large set's latents, and of its encoded captions."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from personax.concepts.bind import from_base
from personax.core.errors import notice
from personax.core.progress import Progress
from personax.data.latents import (
    About,
    Record,
    claim,
    missing,
    remove_damaged,
    write_shard,
)
from personax.data.stream import PictureReader, read_chunks
from personax.diffusion.encode import encode_pictures, encode_prompts
from personax.loading import Base
from personax.networks.compute import Compute
from personax.networks.tokenizer import tokenize
from personax.sampling.setup import local_mesh
from personax.training.config import StreamConfig
from personax.training.datasets import check_buckets, open_pictures


class Plan(NamedTuple):
    """A cache to write, checked, with its folder claimed."""

    base: Base
    reader: PictureReader
    about: About
    folder: pathlib.Path
    part: tuple[int, int]  # (this process, number of processes)
    batch: int
    workers: int


def prepare(
    base: Base,
    settings: StreamConfig,
    out: pathlib.Path,
    *,
    size: int | None = None,
    dtype: str = "float32",
    text: bool = False,
    shard: int = 4096,
    batch: int = 32,
    part: tuple[int, int] = (0, 1),
) -> Plan:
    """Plan the cache of a set, and claim its folder `out`.

    `size` is the side of the pictures, by default the base's own, and `dtype` that of
    the computation. `text` also encodes the set's captions. `shard` and `batch` are in
    pictures. Raises ValueError or FileNotFoundError for an invalid set or option, and
    for a folder that holds another cache.
    """
    if settings.crop == "random":
        raise ValueError(
            "A cache holds one view of each picture: crop must be centre or squash."
        )
    height, width = (size, size) if size else base.spec.size
    base.spec.latent_shape(height, width)
    check_buckets(settings, base.spec.vae.factor)
    # A cache holds no hints, which a stream computes from pictures.
    settings = dataclasses.replace(settings, hint=None)
    reader = open_pictures(settings, (height, width))
    about = About(
        source=settings.source or "",
        split=settings.split,
        pictures=reader.pictures.digest(),
        captioned=reader.pictures.captioned,
        count=len(reader.pictures),
        sizes=tuple(reader.sizes),
        buckets=settings.buckets or 0,
        crop=reader.crop,
        flip=settings.flip,
        vae=base.vae_fingerprint,
        dtype=Compute(dtype).dtype,
        factor=base.spec.vae.factor,
        channels=base.spec.vae.latent_channels,
        shard=shard,
        text_encoder=base.text_fingerprint if text else "",
        text=(
            (base.tokenizer.length, base.spec.text_encoder.hidden_size)
            if text
            else (0, 0)
        ),
    )
    claim(out, about)
    for error in remove_damaged(out, about, part):
        notice(f"{error} Its shard is written again.")
    return Plan(base, reader, about, out, part, batch, settings.workers)


def write(plan: Plan) -> list[str]:
    """Write the missing shards of this process; messages about skipped pictures."""
    about, batch, (first, parts) = plan.about, plan.batch, plan.part
    shards = {
        i: range(i * about.shard, min((i + 1) * about.shard, about.count))
        for i in missing(plan.folder, about)
        if i % parts == first
    }
    chunks = [
        numbers[i : i + batch]
        for numbers in shards.values()
        for i in range(0, len(numbers), batch)
    ]
    read = read_chunks(plan.reader, chunks, plan.workers)
    encode, skipped = _make_encoder(plan), list(plan.reader.pictures.skipped)
    total = sum(len(numbers) for numbers in shards.values())
    with Progress(total=total, desc="encoding", unit="image") as bar:
        for shard, numbers in shards.items():
            records: dict[int, Record] = {}
            waiting: dict[int, list[_Row]] = {}  # by bucket: a batch has one size
            unreadable: list[str] = []
            for first in range(0, len(numbers), batch):
                chunk = numbers[first : first + batch]
                for number, picture in zip(chunk, next(read), strict=True):
                    if "skipped" in picture:
                        unreadable.append(picture["skipped"])
                        continue
                    bucket = picture["bucket"]
                    rows = waiting.setdefault(bucket, [])
                    rows.append((number, picture["pixels"], picture["caption"]))
                    if len(rows) == batch:
                        records |= encode(bucket, waiting.pop(bucket))
                bar.update(len(chunk))
            for bucket, rows in waiting.items():
                records |= encode(bucket, rows)
            ordered = [records[number] for number in sorted(records)]
            write_shard(plan.folder, about, shard, ordered, unreadable)
            skipped += unreadable
    return skipped


_Row = tuple[int, np.ndarray, str]  # number, pixels, caption


def _make_encoder(plan: Plan) -> Callable[[int, list[_Row]], dict[int, Record]]:
    """`(bucket, rows) -> {number: record}` of at most a batch of one size."""
    base, about = plan.base, plan.about
    mesh = local_mesh()  # a process writes its shards independently
    even = plan.batch % mesh.size == 0
    place = functools.partial(
        jax.device_put,
        device=NamedSharding(mesh, PartitionSpec("data" if even else None)),
    )
    compute = Compute(about.dtype)
    denoiser = from_base(base, compute).denoiser

    def posteriors(pixels: np.ndarray) -> np.ndarray:
        """Mean and log variance, float16, "b 2 h w c"."""
        posterior = encode_pictures(
            base.params["vae"], place(pixels), config=base.spec.vae, compute=compute
        )
        stacked = jnp.stack([posterior.mean, posterior.logvar], axis=1)
        return np.asarray(stacked.astype(jnp.float16))

    def encode(bucket: int, rows: list[_Row]) -> dict[int, Record]:
        # Padded, so that each size compiles one program.
        padded = [*rows, *[rows[-1]] * (plan.batch - len(rows))]
        pixels = np.stack([pixels for _, pixels, _ in padded])
        views = [pixels, pixels[:, :, ::-1]] if about.flip else [pixels]
        both = np.stack([posteriors(view) for view in views], axis=1)
        text = ids = [None] * len(rows)
        if about.text_encoder:
            ids = tokenize(base.tokenizer, [caption for _, _, caption in padded])
            prompts = encode_prompts(denoiser, place(ids))
            text = np.asarray(prompts.text.astype(jnp.float16))
        return {
            number: Record(bucket, both[i], caption, text[i], ids[i])
            for i, (number, _, caption) in enumerate(rows)
        }

    return encode

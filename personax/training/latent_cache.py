"""Writing a cache of a large set's latents, and of its encoded captions."""

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from personax.concepts.bind import from_base
from personax.core.progress import Progress
from personax.data.latents import About, Record, claim, missing, write_shard
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
    return Plan(base, reader, about, out, part, batch, settings.workers)


def write(plan: Plan) -> list[str]:
    """Write the missing shards of this process; messages about skipped pictures."""
    about, (first, parts) = plan.about, plan.part
    own = [i for i in missing(plan.folder, about) if i % parts == first]
    chunks: list[tuple[int, list[int]]] = []
    for shard in own:
        end = min((shard + 1) * about.shard, about.count)
        numbers = range(shard * about.shard, end)
        chunks += [
            (shard, list(numbers[i : i + plan.batch]))
            for i in range(0, len(numbers), plan.batch)
        ]
    skipped = list(plan.reader.pictures.skipped)
    encoder, open_shard = _Encoder(plan), None
    total = sum(len(numbers) for _, numbers in chunks)
    with Progress(total=total, desc="encoding", unit="image") as bar:
        read = read_chunks(plan.reader, [n for _, n in chunks], plan.workers)
        for (shard, numbers), pictures in zip(chunks, read, strict=True):
            if shard != open_shard:
                skipped += encoder.finish(open_shard)
                open_shard = shard
            encoder.add(pictures)
            bar.update(len(numbers))
        skipped += encoder.finish(open_shard)
    return skipped


class _Encoder:
    """The records of one shard after the other; pictures of a size form batches."""

    def __init__(self, plan: Plan):
        self.plan = plan
        mesh = local_mesh()  # a process writes its shards independently
        even = plan.batch % mesh.size == 0
        self.sharding = NamedSharding(mesh, PartitionSpec("data" if even else None))
        self.compute = Compute(plan.about.dtype)
        self.denoiser = from_base(plan.base, self.compute).denoiser
        self._start()

    def _start(self) -> None:
        self.records: dict[int, Record] = {}
        self.waiting: dict[int, list[tuple[int, Any, str]]] = {}
        self.skipped: list[str] = []
        self.count = 0

    def add(self, pictures: Sequence[Mapping[str, Any]]) -> None:
        """Take the next pictures of the shard, and encode the full batches."""
        for picture in pictures:
            if "skipped" in picture:
                self.skipped.append(picture["skipped"])
                continue
            waiting = self.waiting.setdefault(picture["bucket"], [])
            waiting.append((self.count, picture["pixels"], picture["caption"]))
            self.count += 1
            if len(waiting) == self.plan.batch:
                self._flush(picture["bucket"])

    def finish(self, shard: int | None) -> list[str]:
        """Write the shard, and return the messages about its skipped pictures."""
        if shard is None:
            return []
        for bucket in list(self.waiting):
            self._flush(bucket)
        records = [self.records[i] for i in range(self.count)]
        write_shard(self.plan.folder, self.plan.about, shard, records, self.skipped)
        skipped = self.skipped
        self._start()
        return skipped

    def _flush(self, bucket: int) -> None:
        rows = self.waiting.pop(bucket, [])
        if not rows:
            return
        # Padded, so that each size compiles one program.
        padding = [rows[-1]] * (self.plan.batch - len(rows))
        pixels = np.stack([pixels for _, pixels, _ in (*rows, *padding)])
        captions = [caption for _, _, caption in (*rows, *padding)]
        views = [pixels, pixels[:, :, ::-1]] if self.plan.about.flip else [pixels]
        posteriors = np.stack([self._encode(view) for view in views], axis=1)
        text = ids = [None] * len(rows)
        if self.plan.about.text_encoder:
            ids = tokenize(self.plan.base.tokenizer, captions)
            prompts = encode_prompts(self.denoiser, jax.device_put(ids, self.sharding))
            text = np.asarray(prompts.text.astype(jnp.float16))
        for i, (number, _, caption) in enumerate(rows):
            self.records[number] = Record(
                bucket, posteriors[i], caption, text[i], ids[i]
            )

    def _encode(self, pixels: np.ndarray) -> np.ndarray:
        """Mean and log variance, float16, "b 2 h w c"."""
        posterior = encode_pictures(
            self.plan.base.params["vae"],
            jax.device_put(pixels, self.sharding),
            config=self.plan.base.spec.vae,
            compute=self.compute,
        )
        stacked = jnp.stack([posterior.mean, posterior.logvar], axis=1)
        return np.asarray(stacked.astype(jnp.float16))

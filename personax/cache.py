"""The command that caches latents: `python -m personax.cache --source SET --out D`."""

import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, UInt8
from ml_collections import config_flags

from personax.cli import command, distributed_flags
from personax.concepts.bind import from_base
from personax.core.progress import Progress
from personax.core.typing import Ids, Text
from personax.data.latents import About, Record, claim, missing, write_shard
from personax.data.stream import PictureReader, read_chunks
from personax.diffusion.denoiser import Denoiser, encode
from personax.loading import Base, load_base
from personax.networks import vae
from personax.networks.compute import Compute
from personax.networks.tokenizer import tokenize
from personax.training.datasets import check_options, open_pictures

FLAGS = flags.FLAGS

# The flags, and where a config has the same.
_SETTINGS = {
    "source": "stream.source",
    "data_dir": "stream.data_dir",
    "split": "stream.split",
    "size": "size",
    "crop": "stream.crop",
    "flip": "stream.flip",
    "buckets": "stream.buckets",
    "workers": "stream.workers",
    "dtype": "dtype",
}


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    command.define_base_flags()
    config_flags.DEFINE_config_file(
        "config", None, "Whose base, size and stream are cached; flags come before it."
    )
    flags.DEFINE_string("source", "", "Such as portraits:people or folder:DIR.")
    flags.DEFINE_string("data_dir", "", "Where tfds:NAME lies.")
    flags.DEFINE_string("split", "train", "Of tfds:NAME.")
    flags.DEFINE_integer("size", 0, "Side in pixels; 0 is the base's own.")
    flags.DEFINE_string("crop", "", "centre (the default) or squash.")
    flags.DEFINE_bool("flip", False, "Latents of every picture's mirror image, too.")
    flags.DEFINE_integer("buckets", 0, "Sizes by aspect, in multiples of this.")
    flags.DEFINE_bool("text", False, "Also the set's own captions, encoded.")
    flags.DEFINE_integer("workers", 0, "Processes that read and decode.")
    flags.DEFINE_integer("batch", 32, "Pictures encoded at a time.", 1)
    flags.DEFINE_integer("shard", 4096, "Pictures per file.", 1)
    flags.DEFINE_string("dtype", "float32", "What is computed in; float16 is kept.")
    flags.DEFINE_string("part", "", "I/N: this process writes shards I, I + N, …")
    flags.DEFINE_string("out", None, "The cache's folder.")
    flags.mark_flag_as_required("out")
    distributed_flags.define_flags()


class Plan(NamedTuple):
    """What is to be cached, checked."""

    base: Base
    reader: PictureReader
    about: About
    folder: pathlib.Path
    part: tuple[int, int]  # this process's number, how many there are
    batch: int
    workers: int


def main(argv: Sequence[str]) -> None:
    command.start()
    with command.exit_on_user_error():
        together = distributed_flags.join()
    with together:
        _run()


def _run() -> None:
    watch = command.Stopwatch()
    with watch("load"), command.exit_on_user_error():
        base, settings = _base(), _settings()
        part = _part(FLAGS.part)
        plan = prepare(
            load_base(**base, sharding=NamedSharding(_mesh(), PartitionSpec())),
            settings,
            pathlib.Path(FLAGS.out),
            text=FLAGS.text,
            shard=FLAGS.shard,
            batch=FLAGS.batch,
            part=part,
        )
    with watch("encode"):
        skipped = write(plan)
    about, lacking = plan.about, missing(plan.folder, plan.about)
    there = about.shards - len(lacking)
    print(f"{there} of {about.shards} shards in {plan.folder}, {about.count} pictures")
    for sentence in skipped:
        print(f"skipped: {sentence}")
    if skipped:
        print(f"{len(skipped)} pictures were skipped")
    print(watch)


def prepare(
    base: Base,
    settings: Mapping[str, Any],
    out: pathlib.Path,
    *,
    text: bool = False,
    shard: int = 4096,
    batch: int = 32,
    part: tuple[int, int] = (0, 1),
) -> Plan:
    """The plan of a set's cache, and its folder claimed.

    `settings` are a config's `stream` with its "size" and "dtype". Raises ValueError or
    FileNotFoundError in one sentence.
    """
    if settings["crop"] == "random":
        raise ValueError(
            "A cache keeps one view of each picture: the crop may be centre or squash."
        )
    side = settings["size"]
    size = (side, side) if side else base.spec.size
    base.spec.latent_shape(*size)
    check_options(settings, base.spec.vae.factor)
    reader = open_pictures(settings, size)
    pictures = reader.pictures
    width = base.spec.text_encoder.hidden_size
    about = About(
        source=settings["source"],
        split=settings["split"],
        pictures=pictures.digest(),
        captioned=pictures.captioned,
        count=len(pictures),
        sizes=reader.sizes,
        buckets=settings["buckets"],
        crop=reader.crop,
        flip=settings["flip"],
        vae=base.vae_fingerprint,
        dtype=Compute(settings["dtype"]).dtype,
        factor=base.spec.vae.factor,
        channels=base.spec.vae.latent_channels,
        shard=shard,
        text_encoder=base.text_fingerprint if text else "",
        text=(base.tokenizer.length, width) if text else (0, 0),
    )
    claim(out, about)
    return Plan(base, reader, about, out, part, batch, settings["workers"])


def write(plan: Plan) -> list[str]:
    """Encodes what this process has to; sentences about the pictures left out."""
    about, (first, parts) = plan.about, plan.part
    mine = [i for i in missing(plan.folder, about) if i % parts == first]
    chunks = []
    for shard in mine:
        numbers = range(
            shard * about.shard, min((shard + 1) * about.shard, about.count)
        )
        chunks += [
            (shard, list(numbers[i : i + plan.batch]))
            for i in range(0, len(numbers), plan.batch)
        ]
    skipped = list(plan.reader.pictures.skipped)
    encoder, open_shard = _Encoder(plan), None
    total = sum(len(numbers) for _, numbers in chunks)
    with Progress(total=total, desc="encoding", unit="image") as bar:
        looks = read_chunks(plan.reader, [n for _, n in chunks], plan.workers)
        for (shard, numbers), seen in zip(chunks, looks, strict=True):
            if shard != open_shard:
                skipped += encoder.finish(open_shard)
                open_shard = shard
            encoder.take(seen)
            bar.update(len(numbers))
        skipped += encoder.finish(open_shard)
    return skipped


class _Encoder:
    """The records of one shard after the other; pictures of a size go together."""

    def __init__(self, plan: Plan):
        self.plan = plan
        devices = _mesh()
        even = plan.batch % devices.size == 0
        self.spread = NamedSharding(devices, PartitionSpec("data" if even else None))
        compute = Compute(plan.about.dtype)
        self.encode = functools.partial(
            _posteriors, config=plan.base.spec.vae, compute=compute
        )
        self.denoiser = from_base(plan.base, compute).denoiser
        self._start()

    def _start(self) -> None:
        self.records: dict[int, Record] = {}
        self.waiting: dict[int, list[tuple[int, Any, str]]] = {}
        self.skipped: list[str] = []
        self.count = 0

    def take(self, seen: Sequence[Mapping[str, Any]]) -> None:
        for look in seen:
            if "skipped" in look:
                self.skipped.append(look["skipped"])
                continue
            row = (self.count, look["pixels"], look["caption"])
            self.count += 1
            waiting = self.waiting.setdefault(look["bucket"], [])
            waiting.append(row)
            if len(waiting) == self.plan.batch:
                self._flush(look["bucket"])

    def finish(self, shard: int | None) -> list[str]:
        """Writes the shard; what was left out of it."""
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
        # Filled up, so that every batch of a size is one compiled program.
        last = [rows[-1]] * (self.plan.batch - len(rows))
        pixels = np.stack([pixels for _, pixels, _ in (*rows, *last)])
        captions = [caption for _, _, caption in (*rows, *last)]
        views = [pixels, pixels[:, :, ::-1]] if self.plan.about.flip else [pixels]
        params = self.plan.base.params["vae"]
        posteriors = np.stack(
            [
                np.asarray(self.encode(params, jax.device_put(view, self.spread)))
                for view in views
            ],
            axis=1,
        )
        text = ids = [None] * len(rows)
        if self.plan.about.text_encoder:
            ids = tokenize(self.plan.base.tokenizer, captions)
            placed = jax.device_put(ids, self.spread)
            text = np.asarray(_read(self.denoiser, placed))
        for i, (number, _, caption) in enumerate(rows):
            self.records[number] = Record(
                bucket, posteriors[i], caption, text[i], ids[i]
            )


@functools.partial(jax.jit, static_argnames=("config", "compute"))
def _posteriors(
    params: Any, pixels: UInt8[Array, "b height width 3"], *, config, compute
) -> Float[Array, "b 2 h w c"]:
    images = pixels.astype(jnp.float32) / 127.5 - 1
    found = vae.encode(params, config, images, compute=compute)
    return jnp.stack([found.mean, found.logvar], axis=1).astype(jnp.float16)


@jax.jit
def _read(denoiser: Denoiser, ids: Ids) -> Text:
    return encode(denoiser, ids).text.astype(jnp.float16)


def _mesh() -> jax.sharding.Mesh:
    """This process's own devices: nothing here needs another's."""
    return jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))


def _settings() -> dict[str, Any]:
    config = FLAGS.config
    found = {}
    for name, key in _SETTINGS.items():
        if config is None or FLAGS[name].present:
            found[name] = getattr(FLAGS, name)
        else:
            *inner, last = key.split(".")
            found[name] = functools.reduce(lambda x, each: x[each], inner, config)[last]
    return {**found, "hint": ""}


def _base() -> dict[str, Any]:
    """The arguments of `load_base`."""
    config = FLAGS.config
    if config is None or FLAGS["base"].present:
        return {"source": FLAGS.base, **command.base_options(FLAGS)}
    options = {key: value for key, value in config.loading.items() if value}
    return {"source": config.base, **options}


def _part(text: str) -> tuple[int, int]:
    if not text:
        return jax.process_index(), jax.process_count()
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ValueError(f"--part {text} is not of the form I/N, such as 0/4.")
    return int(number), int(count)


if __name__ == "__main__":
    define_flags()
    command.run(main)

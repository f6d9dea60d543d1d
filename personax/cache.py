"""Cache a set's latents: `python -m personax.cache --source SET --out DIR`."""

import pathlib
from collections.abc import Sequence

import jax
from absl import flags
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import config_flags

from personax.cli import command, distributed_flags
from personax.core.config import parse, plain
from personax.core.outputs import check_folder, refuse_foreign
from personax.data.latents import missing
from personax.loading import load_base
from personax.sampling.options import SIDES
from personax.sampling.setup import local_mesh
from personax.training.config import StreamConfig, TrainConfig, train_config
from personax.training.latent_cache import Plan, prepare, write

FLAGS = flags.FLAGS

# Flags that override the same keys of the config's `stream`.
_STREAM = ("source", "data_dir", "split", "crop", "flip", "buckets", "workers")


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    command.define_base_flags()
    config_flags.DEFINE_config_file(
        "config", None, "A training config, for its base, size and stream."
    )
    flags.DEFINE_string("source", "", "Such as portraits:people or folder:DIR.")
    command.define_path("data_dir", None, "Directory of tfds:NAME.")
    flags.DEFINE_string("split", "train", "Split of tfds:NAME.")
    number = flags.DEFINE_integer
    number("size", 0, "Side in pixels; 0 is the base's own.", 0, SIDES[1])
    flags.DEFINE_string("crop", "", "centre (the default) or squash.")
    flags.DEFINE_bool("flip", False, "Also cache the mirror image of each picture.")
    number("buckets", 0, "Sizes by aspect, in multiples of this.", 0, SIDES[1])
    flags.DEFINE_bool("text", False, "Also cache the set's captions, encoded.")
    number("workers", 0, "Processes that read and decode pictures.", 0, 1024)
    number("batch", 32, "Pictures per batch.", 1, 10_000)
    number("shard", 4096, "Pictures per file.", 1, 10**6)
    flags.DEFINE_string("dtype", "float32", "Of the computation; float16 is stored.")
    flags.DEFINE_string("part", "", "I/N: this process writes shards I, I + N, …")
    command.define_path("out", None, "Folder of the cache.")
    flags.mark_flag_as_required("out")
    distributed_flags.define_flags()


def main(argv: Sequence[str]) -> None:
    with command.exit_on_user_error():
        processes = distributed_flags.join()
    watch = command.Stopwatch()
    with processes:
        with watch("load"), command.exit_on_user_error():
            out = check_folder(FLAGS.out)
            shards = [path.name for path in out.glob("*.array_record")]
            refuse_foreign(out, shards, "cache.json")
            plan = _prepare(out)
        with watch("encode"):
            skipped = write(plan)
    about = plan.about
    written = about.shards - len(missing(plan.folder, about))
    print(
        f"{written} of {about.shards} shards in {plan.folder}, {about.count} pictures"
    )
    for message in skipped:
        print(f"skipped: {message}")
    if skipped:
        print(f"{len(skipped)} pictures were skipped")
    print(watch)


def _prepare(out: pathlib.Path) -> Plan:
    config = TrainConfig() if FLAGS.config is None else train_config(FLAGS.config)
    overrides = {key: getattr(FLAGS, key) for key in _STREAM if _overrides(key)}
    stream = parse(StreamConfig, plain(config.stream) | overrides, "stream")
    part, sharding = _part(FLAGS.part), NamedSharding(local_mesh(), PartitionSpec())
    source, options = config.base, config.loading.options()
    if _overrides("base"):
        source, options = FLAGS.base, command.base_options(FLAGS)
    base = load_base(source, sharding=sharding, **options)
    return prepare(
        base,
        stream,
        out,
        size=FLAGS.size or None if _overrides("size") else config.size,
        dtype=FLAGS.dtype if _overrides("dtype") else config.dtype,
        text=FLAGS.text,
        shard=FLAGS.shard,
        batch=FLAGS.batch,
        part=part,
    )


def _overrides(flag: str) -> bool:
    return FLAGS.config is None or bool(FLAGS[flag].present)


def _part(text: str) -> tuple[int, int]:
    if not text:
        return jax.process_index(), jax.process_count()
    number, _, count = text.partition("/")
    if not (number.isdigit() and count.isdigit() and int(number) < int(count)):
        raise ValueError(f"--part={text}: expected I/N, such as 0/4.")
    return int(number), int(count)


if __name__ == "__main__":
    command.run(main, define_flags)

"""The cost of the input: training steps on a stream, and on one batch again and again.

    python -m benchmarks.input_feed --batch 16

Both sides encode their pictures and take the same optimisation step; one waits for its
stream, the other has its pictures on the device. Exits with status 1 where the stream
makes a step more than 5 % longer. See README.md.
"""

import dataclasses
import functools
import importlib
import pathlib
import statistics
import tempfile
import time

import jax
from absl import app, flags

from benchmarks import timing
from personax.cli import command
from personax.training import latent_cache
from personax.training.batches import Source
from personax.training.inputs import make_batcher
from personax.training.setup import Run, prepare
from personax.training.state import create
from personax.training.step import make_step

FLAGS = flags.FLAGS


def define_flags() -> None:
    flags.DEFINE_string(
        "source", "portraits:people", "The stream; then also read from a cache."
    )
    flags.DEFINE_string("method", "dreambooth", "configs/emoji_METHOD.py.")
    flags.DEFINE_integer("batch", 16, "Pictures per step.", 1)
    flags.DEFINE_integer("steps", 10, "Steps per run.", 1)
    flags.DEFINE_integer("runs", 5, "Measured runs of each side.", 1)
    flags.DEFINE_integer("cached", 512, "Pictures in the cache.", 1)
    flags.DEFINE_integer("workers", 0, "Processes that read ahead.")
    flags.DEFINE_float("most", 1.05, "The largest accepted ratio.")


def main(_):
    command.start()
    with tempfile.TemporaryDirectory() as folder:
        out, ratios = pathlib.Path(folder) / "cache", []
        ratios.append(measure(FLAGS.source))
        run = prepared(f"{FLAGS.source}:{FLAGS.cached}")
        settings = dataclasses.replace(run.config.stream, flip=True)
        latent_cache.write(latent_cache.prepare(run.base, settings, out))
        ratios.append(measure(f"cache:{out}"))
    if max(ratios) > FLAGS.most:
        raise SystemExit(f"The input makes a step {max(ratios)} times as long.")


def measure(source: str) -> float:
    """Report and return the ratio of both sides' times."""
    run = prepared(source)
    denoiser = run.plain.denoiser
    batcher = make_batcher(run, run.dataset)
    stream = Source(run.dataset, batcher)
    placed = batcher.place(run.dataset.step(0))
    state = create(run.theta, run.tx.init(run.theta), jax.random.key(0))
    step = make_step(run.method, run.tx)
    taken = 0

    def take(batch) -> None:
        nonlocal state
        state, _ = step(state, denoiser, batch)

    def with_data() -> None:
        nonlocal taken
        for _ in range(FLAGS.steps):
            take(stream.batch(taken))
            taken += 1
        jax.block_until_ready(state)

    def without() -> None:
        for _ in range(FLAGS.steps):
            take(batcher.encode(placed))
        jax.block_until_ready(state)

    sides = {"fed": with_data, "held": without}
    cpu: dict[str, list[float]] = {name: [] for name in sides}

    def counted(name: str) -> None:
        before = time.process_time()
        sides[name]()
        cpu[name].append((time.process_time() - before) / FLAGS.steps)

    calls = {name: functools.partial(counted, name) for name in sides}
    seconds = timing.alternate(calls, FLAGS.runs)
    stream.close()
    return timing.report(
        "input_feed",
        {name: [x / FLAGS.steps for x in times] for name, times in seconds.items()},
        ours="fed",
        theirs="held",
        source=source.split(":")[0],
        method=FLAGS.method,
        batch=FLAGS.batch,
        workers=FLAGS.workers,
        # Of all threads, without the first run.
        **{
            f"{name}_cpu_s": round(statistics.median(s[1:]), 4)
            for name, s in cpu.items()
        },
    )


def prepared(source: str) -> Run:
    return prepare(config_of(source))


def config_of(source: str):
    config = importlib.import_module(f"configs.emoji_{FLAGS.method}").get_config()
    config.prior.source, config.preview.prompts = "", ()
    config.concept.class_word, config.batch = "man", FLAGS.batch
    config.stream.source, config.stream.workers = source, FLAGS.workers
    config.stream.flip = source.startswith("cache:")
    return config


if __name__ == "__main__":
    define_flags()
    app.run(main)

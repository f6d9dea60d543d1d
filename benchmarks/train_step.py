"""Time of one optimisation step, against torch diffusers' training scripts.

python -m benchmarks.train_step --model emoji --batch 8
python -m benchmarks.train_step --model emoji --method dreambooth --batch 8
python -m benchmarks.train_step --model DIR   # one of benchmarks.random_sd15
python -m benchmarks.train_step --method concept_centric --against dreambooth --batch 8
python -m benchmarks.train_step --model DIR --method dreambooth \
    --compile --apart --ahead --batch 8,16,32   # on a GPU: images/s and utilisation

Each side is a separate process, which loads the base, takes a first step, and then one
step per request. Latents are cached on both sides. Custom Diffusion trains keys, values
and a word, so both sides run the text encoder; DreamBooth's captions are encoded in
advance, unless --nocache_text. Both clip to norm 1 and use AdamW with decay 0.01.
`--against dreambooth` compares with personax's own DreamBooth step and reports the
compiler's FLOPs of both. On a CPU everything is float32; on a GPU both sides compute in
bfloat16 from float32 weights.
"""

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

from benchmarks import step_sides, timing

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "emoji", "emoji, or a folder in diffusers' layout.")
flags.DEFINE_enum(
    "method", "custom_diffusion", list(step_sides.SD15_FLOPS), "Training method."
)
flags.DEFINE_enum(
    "against", "torch", ["torch", "dreambooth"], "The other side; see above."
)
flags.DEFINE_list("batch", "1", "Batch sizes, measured in turn.")
flags.DEFINE_integer("size", 0, "Image size in pixels; 0: the base's.")
flags.DEFINE_enum(
    "remat", "none", ["none", "block", "layer"], "torch checkpoints unless none."
)
flags.DEFINE_enum("optimizer", "adamw", ["adamw", "sgd"], "sgd keeps no moments.")
flags.DEFINE_bool("cache_text", True, "Encode DreamBooth's captions in advance.")
flags.DEFINE_string("param_dtype", "float32", "Dtype of personax's frozen base.")
flags.DEFINE_integer("repeats", 5, "Counted steps of each side.")
flags.DEFINE_bool(
    "apart", False, "One side at a time, for steps that do not fit in memory twice."
)
flags.DEFINE_bool(
    "ahead",
    False,
    "With --apart: load and compile all sides at once, time them in turn.",
)
flags.DEFINE_multi_integer("pause", [], "Process ids to suspend while timing.")
flags.DEFINE_bool("cold", True, "Also time a first step without a compilation cache.")
flags.DEFINE_bool("compile", False, "torch compiles its UNet.")
flags.DEFINE_string("side", None, "Internal: run this side.")
flags.DEFINE_string("exchange", None, "Internal: folder of the first step's draws.")


def main(argv):
    batches = tuple(map(int, FLAGS.batch))
    if FLAGS.side:
        settings = step_sides.StepSettings(
            **{
                name: FLAGS[name].value
                for name in step_sides.StepSettings._fields
                if name not in ("method", "batches")
            },
            method="dreambooth" if FLAGS.side == "dreambooth" else FLAGS.method,
            batches=batches,
        )
        torch = FLAGS.side == "torch"
        serve(step_sides.torch_side if torch else step_sides.personax_side, settings)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as exchange:
        try:
            cold = first_step(batches[0], exchange) if FLAGS.cold else None
            sides = measure(batches, exchange)
        except ProcessEnded as ended:
            raise SystemExit(str(ended))
    for b in batches:
        if all(b in steps for steps in sides.values()):
            report(b, {side: steps[b] for side, steps in sides.items()}, cold, load)


class Timings(NamedTuple):
    """One side's steps of one batch size."""

    first: dict[str, Any]  # metrics of the first step
    seconds: list[float]
    stats: dict[str, Any]  # statistics after the last step


def first_step(b: int, exchange: str) -> float:
    """Seconds to personax's first step; fills the compilation cache."""
    process = start("personax", exchange, f"--batch={b}")
    seconds = ask(process, f"begin {b}")["since_start"]
    end(process)
    return seconds


def measure(batches: tuple[int, ...], exchange: str) -> dict[str, dict[int, Timings]]:
    """{side: {batch size: timings}}; a side that fails early has fewer batch sizes."""
    sides = (FLAGS.against, "personax")
    timings: dict[str, dict[int, Timings]] = {side: {} for side in sides}
    processes = {}
    if FLAGS.ahead or not FLAGS.apart:
        processes = {side: start(side, exchange) for side in sides}
    if not FLAGS.apart:
        for b in batches:
            first = {side: ask(processes[side], f"begin {b}") for side in sides}
            with paused(FLAGS.pause):
                seconds = timing.alternate(
                    {side: lambda s=side: ask(processes[s], "step") for side in sides},
                    FLAGS.repeats,
                )
            for side in sides:
                stats = ask(processes[side], "about")
                timings[side][b] = Timings(first[side], seconds[side], stats)
    for side in sides if FLAGS.apart else ():
        process = processes.pop(side, None) or start(side, exchange)
        others = [*FLAGS.pause, *(other.pid for other in processes.values())]
        for b in batches:
            try:
                first = ask(process, f"begin {b}")
                with paused(others):
                    seconds = [
                        ask(process, "step")["seconds"] for _ in range(FLAGS.repeats)
                    ]
                timings[side][b] = Timings(first, seconds, ask(process, "about"))
            except ProcessEnded as ended:  # such as out of memory
                print(f"{side}, {b} images: {ended}", file=sys.stderr)
                break
        end(process)
    for process in processes.values():
        end(process)
    return timings


@contextlib.contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """Suspend these processes."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    time.sleep(1 if pids else 0)  # until their queued GPU work has finished
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def report(
    batch: int, sides: dict[str, Timings], cold: float | None, load: float
) -> None:
    """Print a JSON line; memory peaks are of a side's whole process, with loading."""
    about = {
        name: FLAGS[name].value
        for name in ("model", "method", "size", "remat", "optimizer", "compile")
    }
    about |= {"batch": batch, "param_dtype": FLAGS.param_dtype, "apart": FLAGS.apart}
    if FLAGS.method == "dreambooth":
        about["cache_text"] = FLAGS.cache_text
    ours, theirs = sides["personax"].first, sides[FLAGS.against].first
    if batch == int(FLAGS.batch[0]):  # later batch sizes continue from other states
        for name in ("loss", "gradient_norm") if FLAGS.against == "torch" else ():
            difference = abs(ours[name] - theirs[name]) / abs(theirs[name])
            about[f"{name}_difference"] = float(f"{difference:.1e}")
        if cold is not None:
            about["personax_first_step_cold_s"] = round(cold, 1)
        about["personax_first_step_warm_s"] = round(ours["since_start"], 1)
        about[f"{FLAGS.against}_first_step_s"] = round(theirs["since_start"], 1)
    for side in ("personax", FLAGS.against):
        for name, value in sides[side].stats.items():
            about[f"{side}_{name}"] = value
    if FLAGS.against != "torch":
        flops = about["personax_flops"] / about[f"{FLAGS.against}_flops"]
        about["flops_ratio"] = round(flops, 3)
    about["load_before"] = round(load, 2)
    seconds = {side: sides[side].seconds for side in ("personax", FLAGS.against)}
    timing.report("train_step", seconds, theirs=FLAGS.against, **about)


class ProcessEnded(Exception):
    """A side's process has ended."""


def start(side: str, exchange: str, *more: str) -> subprocess.Popen:
    """Start a side's process with the flags of this one and further flags."""
    own = [f"--side={side}", f"--exchange={exchange}", *more]
    environment = os.environ | {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "HF_HUB_OFFLINE": "1",
        "PERSONAX_BENCHMARK_START": str(time.time()),
    }
    if FLAGS.cold:  # otherwise the caller's cache
        environment["JAX_COMPILATION_CACHE_DIR"] = f"{exchange}/cache"
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:], *own],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen, request: str) -> dict[str, Any]:
    """A side's response. Raises ProcessEnded without a response."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{request}\n")
        process.stdin.flush()
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise ProcessEnded(
        f"A side's process ended with status {process.wait()}; see above."
    )


def end(process: subprocess.Popen) -> None:
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait()


def serve(
    make: Callable[..., step_sides.Side], settings: step_sides.StepSettings
) -> None:
    """Respond to the requests on stdin: "begin IMAGES", "step" or "about"."""
    of = make(settings)
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "begin":
            step, about = of(int(number))
            values = step()
            since_start = time.time() - float(os.environ["PERSONAX_BENCHMARK_START"])
            response = {"since_start": since_start, **values}
            seconds, cpu = [], []
        elif word == "step":
            begun, worked = time.perf_counter(), time.process_time()
            step()
            seconds.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - worked)
            response = {"seconds": seconds[-1]}
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            response = {"peak_gib": round(peak, 2), **about(seconds)}
            if cpu:  # of all cores together
                response["cpu_s"] = round(float(np.median(cpu)), 4)
        print(json.dumps(response), flush=True)


if __name__ == "__main__":
    app.run(main)

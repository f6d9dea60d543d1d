"""How long is one optimisation step, against torch diffusers' training scripts?

python -m benchmarks.train_step --model emoji --batch 8
python -m benchmarks.train_step --model emoji --method dreambooth --batch 8
python -m benchmarks.train_step --model DIR   # one of benchmarks.random_sd15
python -m benchmarks.train_step --method concept_centric --against dreambooth --batch 8
python -m benchmarks.train_step --model DIR --method dreambooth \
    --compile --apart --ahead --batch 8,16,32   # on a GPU: images/s and utilisation

Each side is a process of its own, which loads the base, takes a first step, and then
one step whenever it is asked to. Latents are cached on both sides. Custom Diffusion
trains keys, values and a word, so both run the text encoder; DreamBooth's captions are
encoded beforehand, unless --nocache_text. Both clip to norm 1 and use AdamW with decay
0.01. `--against dreambooth` takes personax's own DreamBooth step for the other side;
the compiler's FLOPs of both stand in the line. On a CPU all is float32; on a GPU both
compute in bfloat16 from float32 weights.
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
    "method", "custom_diffusion", list(step_sides.SD15_FLOPS), "What trains."
)
flags.DEFINE_enum(
    "against", "torch", ["torch", "dreambooth"], "The other side; see above."
)
flags.DEFINE_list("batch", "1", "Images; several numbers are measured in turn.")
flags.DEFINE_integer("size", 0, "Of the images, in pixels; 0: the base's.")
flags.DEFINE_enum(
    "remat", "none", ["none", "block", "layer"], "torch checkpoints unless none."
)
flags.DEFINE_enum("optimizer", "adamw", ["adamw", "sgd"], "sgd keeps no moments.")
flags.DEFINE_bool("cache_text", True, "Encode DreamBooth's captions beforehand.")
flags.DEFINE_string("param_dtype", "float32", "Of personax's frozen base.")
flags.DEFINE_integer("repeats", 5, "Counted steps of each side.")
flags.DEFINE_bool(
    "apart", False, "One side at a time: for steps too large to be held twice."
)
flags.DEFINE_bool(
    "ahead", False, "With --apart: load and compile all sides at once, time in turn."
)
flags.DEFINE_multi_integer("pause", [], "Processes that stand still while we time.")
flags.DEFINE_bool("cold", True, "Also time a first step without a compilation cache.")
flags.DEFINE_bool("compile", False, "torch compiles its UNet.")
flags.DEFINE_string("side", None, "Internal: be that side.")
flags.DEFINE_string("exchange", None, "Internal: where the first step's draws lie.")


def main(argv):
    batches = tuple(map(int, FLAGS.batch))
    if FLAGS.side:
        asked = step_sides.Asked(
            **{
                name: FLAGS[name].value
                for name in step_sides.Asked._fields
                if name not in ("method", "batches")
            },
            method="dreambooth" if FLAGS.side == "dreambooth" else FLAGS.method,
            batches=batches,
        )
        torch = FLAGS.side == "torch"
        serve(step_sides.torch_side if torch else step_sides.personax_side, asked)
        return
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as exchange:
        try:
            cold = first_step(batches[0], exchange) if FLAGS.cold else None
            found = measure(batches, exchange)
        except Ended as ended:
            raise SystemExit(str(ended))
    for b in batches:
        if all(b in each for each in found.values()):
            report(b, {side: each[b] for side, each in found.items()}, cold, load)


class Measured(NamedTuple):
    """One side's steps of so many images."""

    first: dict[str, Any]  # what the first step said
    seconds: list[float]
    last: dict[str, Any]  # what the side said in the end


def first_step(b: int, exchange: str) -> float:
    """Seconds to personax's first step; it leaves a compilation cache behind."""
    process = start("personax", exchange, f"--batch={b}")
    seconds = ask(process, f"begin {b}")["since_start"]
    end(process)
    return seconds


def measure(batches: tuple[int, ...], exchange: str) -> dict[str, dict[int, Measured]]:
    """{side: {images: its steps}}; where a side ends early, what it had measured."""
    sides = (FLAGS.against, "personax")
    found: dict[str, dict[int, Measured]] = {side: {} for side in sides}
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
                last = ask(processes[side], "about")
                found[side][b] = Measured(first[side], seconds[side], last)
    for side in sides if FLAGS.apart else ():
        process = processes.pop(side, None) or start(side, exchange)
        still = [*FLAGS.pause, *(other.pid for other in processes.values())]
        for b in batches:
            try:
                first = ask(process, f"begin {b}")
                with paused(still):
                    seconds = [
                        ask(process, "step")["seconds"] for _ in range(FLAGS.repeats)
                    ]
                found[side][b] = Measured(first, seconds, ask(process, "about"))
            except Ended as ended:  # such as for want of memory
                print(f"{side}, {b} images: {ended}", file=sys.stderr)
                break
        end(process)
    for process in processes.values():
        end(process)
    return found


@contextlib.contextmanager
def paused(pids: list[int]) -> Iterator[None]:
    """Those processes stand still."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
    time.sleep(1 if pids else 0)  # what a GPU was given by them comes to its end
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def report(
    batch: int, found: dict[str, Measured], cold: float | None, load: float
) -> None:
    """One JSON line; peaks are those of a side's whole process, its load included."""
    about = {
        name: FLAGS[name].value
        for name in ("model", "method", "size", "remat", "optimizer", "compile")
    }
    about |= {"batch": batch, "param_dtype": FLAGS.param_dtype, "apart": FLAGS.apart}
    if FLAGS.method == "dreambooth":
        about["cache_text"] = FLAGS.cache_text
    ours, theirs = found["personax"].first, found[FLAGS.against].first
    if batch == int(FLAGS.batch[0]):  # the others go on from other steps
        for name in ("loss", "gradient_norm") if FLAGS.against == "torch" else ():
            difference = abs(ours[name] - theirs[name]) / abs(theirs[name])
            about[f"{name}_difference"] = float(f"{difference:.1e}")
        if cold is not None:
            about["personax_first_step_cold_s"] = round(cold, 1)
        about["personax_first_step_warm_s"] = round(ours["since_start"], 1)
        about[f"{FLAGS.against}_first_step_s"] = round(theirs["since_start"], 1)
    for side in ("personax", FLAGS.against):
        for name, value in found[side].last.items():
            about[f"{side}_{name}"] = value
    if FLAGS.against != "torch":
        flops = about["personax_flops"] / about[f"{FLAGS.against}_flops"]
        about["flops_ratio"] = round(flops, 3)
    about["load_before"] = round(load, 2)
    seconds = {side: found[side].seconds for side in ("personax", FLAGS.against)}
    timing.report("train_step", seconds, theirs=FLAGS.against, **about)


class Ended(Exception):
    """A side's process is no more."""


def start(side: str, exchange: str, *more: str) -> subprocess.Popen:
    """That side's process, begun with the flags of this one, and with more."""
    own = [f"--side={side}", f"--exchange={exchange}", *more]
    environment = os.environ | {
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "HF_HUB_OFFLINE": "1",
        "PERSONAX_BENCHMARK_START": str(time.time()),
    }
    if FLAGS.cold:  # else whichever the caller has
        environment["JAX_COMPILATION_CACHE_DIR"] = f"{exchange}/cache"
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:], *own],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen, what: str) -> dict[str, Any]:
    """What a side answers; raises Ended where there is no answer."""
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(f"{what}\n")
        process.stdin.flush()
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise Ended(f"A side's process ended with status {process.wait()}; see above.")


def end(process: subprocess.Popen) -> None:
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.wait()


def serve(make: Callable[..., step_sides.Side], asked: step_sides.Asked) -> None:
    """Answers what is asked on stdin: "begin IMAGES", "step" or "about"."""
    of = make(asked)
    for line in sys.stdin:
        word, _, number = line.strip().partition(" ")
        if word == "begin":
            step, about = of(int(number))
            values = step()
            since_start = time.time() - float(os.environ["PERSONAX_BENCHMARK_START"])
            found = {"since_start": since_start, **values}
            seconds, cpu = [], []
        elif word == "step":
            begun, worked = time.perf_counter(), time.process_time()
            step()
            seconds.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - worked)
            found = {"seconds": seconds[-1]}
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            found = {"peak_gib": round(peak, 2), **about(seconds)}
            if cpu:  # of all cores together
                found["cpu_s"] = round(float(np.median(cpu)), 4)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    app.run(main)

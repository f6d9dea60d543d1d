"""How long is one optimisation step, against torch diffusers' training scripts?

python -m benchmarks.train_step --model emoji --batch 8
python -m benchmarks.train_step --model emoji --method dreambooth --batch 8
python -m benchmarks.train_step --model DIR   # one of benchmarks.random_sd15
python -m benchmarks.train_step --method concept_centric --against dreambooth --batch 8
python -m benchmarks.train_step --model DIR --method dreambooth --remat layer \
    --compile --apart --batch 8,16,32,64   # on a GPU: images/s and utilisation of both

Each side is a process of its own, which loads the base, takes a first step, and then
one step whenever it is asked to. Latents are cached on both sides. Custom Diffusion
trains keys, values and a word, so both run the text encoder; DreamBooth's captions are
encoded beforehand, unless --nocache_text. Both clip to norm 1 and use AdamW with decay
0.01. `--against dreambooth` takes personax's own DreamBooth step for the other side;
the compiler's FLOPs of both stand in the line. On a CPU all is float32; on a GPU both
compute in bfloat16 from float32 weights.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

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
flags.DEFINE_bool("compile", False, "torch compiles its UNet.")
flags.DEFINE_string("side", None, "Internal: be that side.")
flags.DEFINE_string("exchange", None, "Internal: where the first step's draws lie.")


def main(argv):
    if FLAGS.side:
        asked = step_sides.Asked(
            **{
                name: FLAGS[name].value
                for name in step_sides.Asked._fields
                if name not in ("method", "batch")
            },
            method="dreambooth" if FLAGS.side == "dreambooth" else FLAGS.method,
            batch=int(FLAGS.batch[0]),
        )
        torch = FLAGS.side == "torch"
        serve(step_sides.torch_side if torch else step_sides.personax_side, asked)
        return
    for batch in map(int, FLAGS.batch):
        measure(batch)


def measure(batch: int) -> None:
    """Both sides' steps of so many images, as a line."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as exchange:
        first, last = {}, {}

        def begin(side: str, name: str = "") -> subprocess.Popen:
            process = start(side, batch, exchange)
            first[name or side] = answer(process)
            return process

        def end(side: str, process: subprocess.Popen) -> None:
            last[side] = ask(process, "end")
            process.wait()

        # The first process fills the compilation cache and draws what chance decides.
        end("cold", begin("personax", "cold"))
        sides = (FLAGS.against, "personax")
        if FLAGS.apart:
            seconds = {}
            for side in sides:
                process = begin(side)
                seconds[side] = [
                    ask(process, "step")["seconds"] for _ in range(FLAGS.repeats)
                ]
                end(side, process)
        else:
            processes = {side: begin(side) for side in sides}
            seconds = timing.alternate(
                {
                    side: lambda p=process: ask(p, "step")
                    for side, process in processes.items()
                },
                FLAGS.repeats,
            )
            for side, process in processes.items():
                end(side, process)
    report(batch, seconds, first, last, load)


def report(batch: int, seconds, first, last, load: float) -> None:
    """One JSON line; peaks are those of a side's whole process, its load included."""
    about = {
        name: FLAGS[name].value
        for name in ("model", "method", "size", "remat", "optimizer", "compile")
    }
    about |= {"batch": batch, "param_dtype": FLAGS.param_dtype, "apart": FLAGS.apart}
    if FLAGS.method == "dreambooth":
        about["cache_text"] = FLAGS.cache_text
    ours, theirs = first["personax"], first[FLAGS.against]
    for name in ("loss", "gradient_norm") if FLAGS.against == "torch" else ():
        difference = abs(ours[name] - theirs[name]) / abs(theirs[name])
        about[f"{name}_difference"] = float(f"{difference:.1e}")
    about |= {
        "personax_first_step_cold_s": round(first["cold"]["since_start"], 1),
        "personax_first_step_warm_s": round(ours["since_start"], 1),
        f"{FLAGS.against}_first_step_s": round(theirs["since_start"], 1),
    }
    for side in ("personax", FLAGS.against):
        for name, value in last[side].items():
            about[f"{side}_{name}"] = value
    if FLAGS.against != "torch":
        flops = last["personax"]["flops"] / last[FLAGS.against]["flops"]
        about["flops_ratio"] = round(flops, 3)
    about["load_before"] = round(load, 2)
    timing.report("train_step", seconds, theirs=FLAGS.against, **about)


def start(side: str, batch: int, exchange: str) -> subprocess.Popen:
    """That side's process, begun with the flags of this one."""
    own = [f"--side={side}", f"--batch={batch}", f"--exchange={exchange}"]
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": f"{exchange}/cache",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.3",
        "HF_HUB_OFFLINE": "1",
        "PERSONAX_BENCHMARK_START": str(time.time()),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.train_step", *sys.argv[1:], *own],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def ask(process: subprocess.Popen, what: str) -> dict[str, Any]:
    process.stdin.write(f"{what}\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen) -> dict[str, Any]:
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"A side ended with status {process.wait()}; see above.")


def serve(make: Callable[..., Any], asked: step_sides.Asked) -> None:
    """Take a first step, then one for each line on stdin until it says "end"."""
    step, about = make(asked)
    values = step()
    since_start = time.time() - float(os.environ["PERSONAX_BENCHMARK_START"])
    print(json.dumps({"since_start": since_start, **values}), flush=True)
    seconds, cpu = [], []
    for line in sys.stdin:
        if line.strip() == "end":
            break
        begun, worked = time.perf_counter(), time.process_time()
        step()
        seconds.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - worked)
        print(json.dumps({"seconds": seconds[-1]}), flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    values = {"peak_gib": round(peak, 2), **about(seconds)}
    if cpu:  # of all cores together
        values["cpu_s"] = round(float(np.median(cpu)), 4)
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    app.run(main)

"""Stop one run of several processes again and again, as a cloud takes machines away.

    python -m benchmarks.preemptions --count 100

Each start of the run gets one SIGTERM, to a random one of its processes: mostly after a
few more steps, sometimes while it loads or compiles. All processes must end, and every
step must be logged once. In the end metrics and theta must be equal to the byte to
those of a run that nothing stopped. Exits with status 1 otherwise. Results are in
docs/reliability.md.
"""

import contextlib
import os
import pathlib
import random
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence

from absl import app, flags

from benchmarks import resumable
from personax.core.files import read_journal
from tests.fast import WITHOUT_TORCH
from tests.loading.make import write_pipeline

FLAGS = flags.FLAGS
_PATIENCE = 40  # seconds of a launcher, after one process has failed
_MOST_STEPS = 4  # of a start before its signal
_STEPS = 35  # of the run, for each signal; those of the smallest base take milliseconds


def define_flags() -> None:
    flags.DEFINE_integer("count", 100, "Signals.", 1)
    flags.DEFINE_integer("processes", 2, "Processes of the run.", 2)
    flags.DEFINE_integer("seed", 0, "Of the moments.")


def main(_):
    rng = random.Random(FLAGS.seed)
    steps = FLAGS.count * _STEPS
    with tempfile.TemporaryDirectory() as scratch:
        whole, folder = pathlib.Path(scratch) / "whole", pathlib.Path(scratch) / "run"
        # Starting processes is all that takes time.
        write_pipeline(folder.with_name("base"), smallest=True)
        _end(_start(whole, steps), whole)
        begin, early, killed = time.monotonic(), 0, 0
        for number in range(FLAGS.count):
            before = _logged(folder)
            processes = _start(folder, steps)
            which = _stop_one(processes, folder, before, rng)
            at = _logged(folder)
            early += at == before
            killed += _wait(processes)
            after = _logged(folder)
            print(
                f"signal {number}, to process {which}: steps {before} to {after}, sent "
                f"at {at}",
                flush=True,
            )
            if after < before:
                _fail(folder, f"{before - after} steps were lost.")
            if after == steps:
                _fail(folder, "The signal did not stop the run.")
            for log in folder.parent.glob(f"{folder.name}-*"):
                log.unlink()
        _end(_start(folder, steps), folder)
        if resumable.trained(folder) != resumable.trained(whole):
            raise SystemExit("The run differs from one that nothing stopped.")
    minutes = (time.monotonic() - begin) / 60
    print(
        f"{FLAGS.count} signals to {FLAGS.processes} processes, {early} of them before "
        f"the first step ({killed} processes then waited for the stopped one and were "
        f"killed), {steps} steps: none lost, none twice, equal metrics and theta, "
        f"{minutes:.0f} minutes"
    )


def _start(folder: pathlib.Path, steps: int) -> list[subprocess.Popen[bytes]]:
    """Start all processes of the run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = resumable.training(
        folder,
        f"--config.steps={steps}",
        f"--config.batch={FLAGS.processes}",
        f"--config.base={folder.with_name('base')}",
        "--config.size=8",
        "--config.save_every=1000",
        "--config.preview.prompts=()",
        "--config.validation.every=0",
        f"--coordinator=127.0.0.1:{port}",
        f"--processes={FLAGS.processes}",
    )
    return [
        resumable.start(
            [*arguments, f"--process={i}"],
            folder.with_name(f"{folder.name}-{i}"),
            JAX_NUM_CPU_DEVICES="1",
            PYTHONPATH=WITHOUT_TORCH,
        )
        for i in range(FLAGS.processes)
    ]


def _stop_one(
    processes: Sequence[subprocess.Popen],
    folder: pathlib.Path,
    before: int,
    rng: random.Random,
) -> int:
    """Send SIGTERM to a process, and return its number."""
    if rng.random() < 0.2:
        with contextlib.suppress(subprocess.TimeoutExpired):
            processes[0].wait(rng.uniform(0, 15))
    else:
        steps = rng.randint(1, _MOST_STEPS)
        while _logged(folder) < before + steps:
            if any(process.poll() is not None for process in processes):
                _fail(folder, "A process ended before its signal.")
            time.sleep(0.002)
    which = rng.randrange(len(processes))
    os.kill(processes[which].pid, signal.SIGTERM)
    return which


def _wait(processes: Sequence[subprocess.Popen]) -> int:
    """Wait for the end of all; how many had to be killed.

    A process that is stopped before it has joined the others leaves them waiting, up to
    jax's five minutes: a launcher ends them, as slurm's --kill-on-bad-exit does.
    """
    killed, limit = 0, None
    while any(process.poll() is None for process in processes):
        if limit is None and any(process.poll() for process in processes):
            limit = time.monotonic() + _PATIENCE
        if limit is not None and time.monotonic() > limit:
            for process in processes:
                killed += process.poll() is None
                process.kill()
        time.sleep(0.01)
    return killed


def _logged(folder: pathlib.Path) -> int:
    """The number of logged steps, each of which must be there once."""
    records = read_journal(folder / "metrics.jsonl")
    steps = [line["step"] for line in records if "loss" in line]
    if steps != [*range(1, len(steps) + 1)]:
        _fail(folder, f"Steps are missing or there twice: {steps}.")
    return len(steps)


def _end(processes: Sequence[subprocess.Popen], folder: pathlib.Path) -> None:
    """Wait for a run that must end well."""
    if any(process.wait() for process in processes):
        _fail(folder, "The run failed.")


def _fail(folder: pathlib.Path, why: str) -> None:
    for log in sorted(folder.parent.glob(f"{folder.name}-*.err")):
        print(f"{log.name}:", log.read_text()[-8000:], sep="\n")
    raise SystemExit(why)


if __name__ == "__main__":
    define_flags()
    app.run(main)

"""Runs of several real processes over loopback: stopped, killed, and resumed."""

import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from safetensors.numpy import load_file

from personax.core.files import read_journal
from tests.commands.test_resume import assert_same, lines, stop_when
from tests.fast import FAST, WITHOUT_TORCH
from tests.loading.make import write_pipeline

ROOT = pathlib.Path(__file__).parent.parent
STEPS = 60
HEARTBEAT = 6  # seconds
# Theta, moments, averages and the frozen base, sharded over both processes.
SHARDED = [
    "--config.mesh.shape.fsdp=2",
    '--config.mesh.theta_rules=((".*", "shard"),)',
    '--config.mesh.base_rules=((".*attn.*", "shard"), (".*", "replicate"))',
]

# Scenes with their own captions, drawn by a worker process.
STREAM = [
    "--config.concept.images=",
    "--config.stream.source=scenes:50",
    "--config.stream.captions=own",
    "--config.stream.workers=1",
    "--config.data.caption_dropout=0.3",
    "--config.save_every=5",
]


class Host:
    """One process of a run, whose output goes to files."""

    def __init__(self, process, output):
        self.process, self._output = process, output

    def said(self):
        """What the process has written to stderr until now."""
        return self._output.with_suffix(".err").read_text()

    def finish(self):
        """(status, stdout, stderr) once the process has ended."""
        status = self.process.wait(timeout=300)
        return status, *[
            self._output.with_suffix(x).read_text() for x in (".out", ".err")
        ]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start the command with a work directory, a number of processes and of devices."""
    place = tmp_path_factory.mktemp("hosts")
    write_pipeline(place / "base", smallest=True)
    environment = {
        **os.environ,
        "PYTHONPATH": WITHOUT_TORCH,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": FAST,
        "JAX_COMPILATION_CACHE_DIR": str(place / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    command = [
        *(sys.executable, "-m", "personax.train"),
        "--config=configs/emoji_custom_diffusion.py",
        f"--config.base={place / 'base'}",
        "--config.size=8",
        "--config.batch=4",
        f"--config.steps={STEPS}",
        "--config.ema_decay=0.9",
        "--config.log_every=1",
        "--config.prior.source=",
        "--config.preview.prompts=()",
        f"--heartbeat={HEARTBEAT}",
    ]

    def begin(workdir, *arguments, processes=1, devices=1):
        port, hosts = _free_port(), []
        for i in range(processes):
            output = place / f"{workdir.parent.name}-{processes}-{i}"
            where = {"JAX_NUM_CPU_DEVICES": str(devices)}
            if processes > 1:
                where["JAX_COORDINATOR_ADDRESS"] = f"127.0.0.1:{port}"
                where["JAX_NUM_PROCESSES"] = str(processes)
                where["JAX_PROCESS_ID"] = str(i)
            with (
                output.with_suffix(".out").open("w") as out,
                output.with_suffix(".err").open("w") as err,
            ):
                process = subprocess.Popen(
                    [*command, f"--workdir={workdir}", *arguments],
                    stdout=out,
                    stderr=err,
                    cwd=ROOT,
                    env={**environment, **where},
                )
            hosts.append(Host(process, output))
        return hosts

    return begin


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def test_two_processes_equal_one_and_resume_on_another_mesh(start, tmp_path_factory):
    whole = tmp_path_factory.mktemp("whole") / "run"
    (alone,) = start(whole, "--config.save_every=1000")
    workdir = tmp_path_factory.mktemp("pair") / "run"
    # A checkpoint per step is slow enough for the signal to arrive before the end.
    slowly = ["--config.save_every=1", "--stopped_status=75"]
    pair = start(workdir, *SHARDED, *slowly, processes=2)
    stop_when(pair[1].process, lambda: lines(workdir) >= 3, signal.SIGTERM)
    (first, out, err), (second, silent, more) = (host.finish() for host in pair)
    assert (first, second) == (75, 75), err + more
    reached = lines(workdir)
    assert 3 <= reached < STEPS
    assert f"Stopped at step {reached};" in out
    assert (
        max(int(path.name) for path in (workdir / "checkpoints").iterdir()) == reached
    )
    assert "Stopped" not in silent
    assert "training" not in silent + more

    # Resumed, and stopped before its first step.
    pair = start(workdir, *SHARDED, *slowly, processes=2)
    stop_when(pair[0].process, lambda: "encoding" in pair[0].said(), signal.SIGTERM)
    assert [host.finish()[0] for host in pair] == [75, 75]
    assert reached <= lines(workdir) < STEPS

    (resumed,) = start(workdir, *SHARDED, "--config.save_every=1000", devices=4)
    for host in (alone, resumed):
        status, out, err = host.finish()
        assert status == 0, err
        assert "concept in" in out
    ours, expected = (
        read_journal(workdir / "metrics.jsonl"),
        read_journal(whole / "metrics.jsonl"),
    )
    assert [line["step"] for line in ours] == [*range(1, STEPS + 1)]
    np.testing.assert_allclose(
        [line["loss"] for line in ours], [line["loss"] for line in expected], rtol=1e-5
    )
    theta, same = (
        load_file(folder / "concept" / "theta.safetensors")
        for folder in (workdir, whole)
    )
    assert theta.keys() == same.keys()
    for name, leaf in same.items():
        np.testing.assert_allclose(theta[name], leaf, rtol=0, atol=1e-4, err_msg=name)


def test_a_killed_process_ends_the_other_within_the_heartbeat(start, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("killed") / "run"
    # The same arguments as in the test above, whose compiled programs are cached.
    pair = start(workdir, *SHARDED, "--config.save_every=1", processes=2)
    stop_when(pair[1].process, lambda: lines(workdir) >= 2)
    assert pair[1].process.wait() == -signal.SIGKILL
    begin = time.monotonic()
    status, out, err = pair[0].finish()
    # jax checks about twice per heartbeat; the rest is for a busy machine.
    assert time.monotonic() - begin < 2 * HEARTBEAT
    assert status != 0
    assert "another task died" in err  # jax's own message
    assert "concept in" not in out


def test_a_killed_stream_resumes_bitwise(start, tmp_path_factory):
    whole = tmp_path_factory.mktemp("stream") / "run"
    (alone,) = start(whole, *STREAM)
    workdir = tmp_path_factory.mktemp("cut") / "run"
    (cut,) = start(workdir, *STREAM)
    stop_when(cut.process, lambda: lines(workdir) >= 13)
    assert cut.process.wait() == -signal.SIGKILL
    assert lines(workdir) < STEPS
    (resumed,) = start(workdir, *STREAM)
    for host in (alone, resumed):
        status, _, err = host.finish()
        assert status == 0, err
    assert_same(workdir, whole, STEPS)

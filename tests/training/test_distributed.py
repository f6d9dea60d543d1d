"""Runs of several processes: how they are specified, what they share, how they end."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from personax.training.distributed import _arguments
from tests.fast import FAST

ROOT = pathlib.Path(__file__).parent.parent.parent
HEARTBEAT = 6  # seconds
pytestmark = pytest.mark.quick


def both(function):
    """[(status, stdout, stderr)] of two processes that run a function of `two.py`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [
        subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "tests.training.two",
                    function,
                    "--processes=2",
                ),
                *(f"--process={i}", f"--coordinator=127.0.0.1:{port}"),
                f"--heartbeat={HEARTBEAT}",
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "XLA_FLAGS": FAST, "JAX_NUM_CPU_DEVICES": "1"},
        )
        for i in range(2)
    ]
    outputs = [process.communicate(timeout=120) for process in pair]
    return [
        (process.returncode, *output)
        for process, output in zip(pair, outputs, strict=True)
    ]


def test_processes_share_arrays_and_values_and_process_0_prints():
    (one, out, err), (two, silent, more) = both("share")
    assert (one, two) == (0, 0), err + more
    assert "printed once" in out
    assert "printed once" not in silent


def test_an_error_of_process_0_is_raised_on_all():
    for status, _, err in both("refuse"):
        assert status == 2
        assert err.strip().splitlines()[-1] == "the disk is full"


def test_a_process_that_fails_prints_its_error_and_ends_the_other():
    (waiting, _, _), (failed, _, err) = both("fail")
    assert waiting != 0
    assert failed != 0
    assert "KeyError: 'nothing here'" in err.splitlines()


def test_a_killed_coordinator_ends_the_other_within_the_heartbeat():
    (killed, out, _), (status, _, err) = both("first_dies")
    assert killed == -9
    assert status not in (0, None)
    assert time.time() - float(out.rpartition("dies at ")[2]) < 2 * HEARTBEAT
    assert "another task died" in err  # jax's own message


CPU = {"TPU_SKIP_MDS_QUERY": "1"}  # jax sets it where there is no TPU
SLURM = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}
WHERE = {"JAX_COORDINATOR_ADDRESS": "h:1"}
WHO = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
BOTH = {"coordinator_address": "h:1", "num_processes": 2, "process_id": 1}


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        (CPU, None),
        ({**CPU, **WHERE, **WHO}, BOTH),
        ({**CPU, **WHERE, "JAX_NUM_PROCESSES": "1"}, None),
        # The shell of an allocation has no step and no other processes.
        ({**CPU, "SLURM_NTASKS": "2"}, None),
        ({**CPU, **SLURM, "SLURM_NTASKS": "1"}, None),
        ({**CPU, **SLURM}, {}),
        ({**CPU, **SLURM, **WHERE}, {"coordinator_address": "h:1"}),
        ({**CPU, "OMPI_COMM_WORLD_SIZE": "2"}, {}),
        ({**CPU, "TPU_WORKER_HOSTNAMES": "a"}, None),
        ({**CPU, "TPU_WORKER_HOSTNAMES": "a,b"}, {}),
        ({**CPU, "MEGASCALE_NUM_SLICES": "2"}, {}),
        ({}, {}),  # a TPU VM, whose metadata jax reads
        ({"JAX_PLATFORMS": "cpu"}, None),
    ],
)
def test_the_environment_specifies_a_process(environment, arguments):
    assert _arguments(environment, None, None, None) == arguments


def test_arguments_override_the_environment():
    arguments = _arguments({**CPU, **WHERE, **WHO}, "other:2", None, 0)
    assert arguments == {**BOTH, "coordinator_address": "other:2", "process_id": 0}
    assert _arguments({**CPU, **SLURM}, None, 1, None) is None


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        (WHERE, "also needs --processes or JAX_NUM_PROCESSES and --process or"),
        (WHO, "also needs --coordinator or JAX_COORDINATOR_ADDRESS."),
        (
            {**WHERE, **WHO, "JAX_PROCESS_ID": "2"},
            "--process=2: expected an index",
        ),
        (
            {**WHO, "JAX_COORDINATOR_ADDRESS": "h"},
            "--coordinator='h': expected",
        ),
    ],
)
def test_an_incomplete_specification_is_an_error(environment, error):
    with pytest.raises(ValueError, match=error):
        _arguments({**CPU, **environment}, None, None, None)

"""Processes as one run: who they are told to be, what they share, how they end."""

import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from personax.training.distributed import _place
from personax.training.stderr_filter import sentence
from tests.fast import FAST

ROOT = pathlib.Path(__file__).parent.parent.parent
HEARTBEAT = 6  # seconds
pytestmark = pytest.mark.quick


def both(what):
    """[(status, stdout, stderr)] of two processes that do what `two.py` calls so."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    pair = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.training.two", what, "--processes=2"),
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
    said = [process.communicate(timeout=120) for process in pair]
    ends = [process.returncode for process in pair]
    return [(end, *texts) for end, texts in zip(ends, said, strict=True)]


def test_they_hold_and_know_the_same_and_the_first_speaks():
    (one, said, wrong), (two, silent, more) = both("share")
    assert (one, two) == (0, 0), wrong + more
    assert "said once" in said
    assert "said once" not in silent


def test_what_only_the_first_can_see_is_wrong_is_wrong_for_all():
    for status, _, said in both("refuse"):
        assert status == 2
        assert said.strip().splitlines()[-1] == "the disk is full of eels"


def test_one_that_fails_says_why_and_the_other_does_not_wait_for_it():
    (waiting, _, heard), (failed, _, said) = both("fail")
    assert (waiting, failed) == (1, 1)
    assert said.strip().splitlines()[-1] == "KeyError: 'nothing here'"
    assert heard.strip().splitlines()[-1].startswith("personax: ")
    assert "Traceback" not in heard


def test_the_others_stop_with_a_sentence_when_the_coordinator_is_killed():
    (killed, out, _), (status, _, said) = both("first_dies")
    assert (killed, status) == (-9, 1)
    assert time.time() - float(out.rpartition("dies at ")[2]) < 2 * HEARTBEAT
    last = said.strip().splitlines()[-1]
    assert last.startswith("personax: Process 0 of this run has ended or cannot be")
    for noise in ("Traceback", "absl::", "stack trace"):
        assert noise not in said


CPU = {"TPU_SKIP_MDS_QUERY": "1"}  # jax sets it where there is no TPU
SLURM = {"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_NTASKS": "2"}
WHERE = {"JAX_COORDINATOR_ADDRESS": "h:1"}
WHO = {"JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": "1"}
FOUND = {"coordinator_address": "h:1", "num_processes": 2, "process_id": 1}


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        (CPU, None),
        ({**CPU, **WHERE, **WHO}, FOUND),
        ({**CPU, **WHERE, "JAX_NUM_PROCESSES": "1"}, None),
        # In an allocation's own shell there is no step, and nobody to find.
        ({**CPU, "SLURM_NTASKS": "2"}, None),
        ({**CPU, **SLURM, "SLURM_NTASKS": "1"}, None),
        ({**CPU, **SLURM}, {}),
        ({**CPU, **SLURM, **WHERE}, {"coordinator_address": "h:1"}),
        ({**CPU, "OMPI_COMM_WORLD_SIZE": "2"}, {}),
        ({**CPU, "TPU_WORKER_HOSTNAMES": "a"}, None),
        ({**CPU, "TPU_WORKER_HOSTNAMES": "a,b"}, {}),
        ({**CPU, "MEGASCALE_NUM_SLICES": "2"}, {}),
        ({}, {}),  # a TPU VM, whose metadata jax asks
        ({"JAX_PLATFORMS": "cpu"}, None),
    ],
)
def test_the_environment_says_who_a_process_is(environment, place):
    assert _place(environment, None, None, None) == place


def test_flags_come_before_the_environment():
    found = _place({**CPU, **WHERE, **WHO}, "other:2", None, 0)
    assert found == {**FOUND, "coordinator_address": "other:2", "process_id": 0}
    assert _place({**CPU, **SLURM}, None, 1, None) is None


@pytest.mark.parametrize(
    ("environment", "error"),
    [
        (WHERE, "also needs --processes or JAX_NUM_PROCESSES and --process or"),
        (WHO, "also needs --coordinator or JAX_COORDINATOR_ADDRESS."),
        ({**WHERE, **WHO, "JAX_PROCESS_ID": "2"}, "There is no process 2 of 2; they"),
        ({**WHO, "JAX_COORDINATOR_ADDRESS": "h"}, "The coordinator 'h' is no HOST:P"),
    ],
)
def test_a_place_half_said_is_refused(environment, error):
    with pytest.raises(ValueError, match=error):
        _place({**CPU, **environment}, None, None, None)


def test_jax_s_message_of_silent_processes_names_them():
    message = "(stopped sending heartbeats):\n1, 3\nThe tasks have crashed. 17"
    assert sentence(message).startswith("Process 1 and 3 of this run has ended or")


def test_jax_s_message_of_a_start_alone_is_another_one():
    assert "did not find each other" in sentence("RPC: /x/RegisterTask\n***")

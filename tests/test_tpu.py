"""A training step and the sampler compile for a TPU, spread over devices not here."""

import dataclasses
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tpu_compile import LOCK, held
from personax.networks.compute import Compute

ROOT = Path(__file__).parents[1]
TIMEOUT = 300  # seconds; about 30 on two idle cores
PROGRAMS = ("step", "sampler")


@pytest.fixture(scope="module")
def found(tiny_spec):
    """{program: what tpu_compile says of it}, of the tiny model."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu, the TPU's compiler, is not installed")
    if held(LOCK):
        pytest.skip(f"another process holds libtpu's lock, {LOCK}")
    spec = dataclasses.replace(tiny_spec, compute=Compute("bfloat16", platform="tpu"))
    # A process of its own: libtpu is loaded once per process and keeps the lock.
    run = subprocess.run(
        [sys.executable, "-m", "tests.tpu_compile"],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": "", "TPU_SKIP_MDS_QUERY": "1"},
        input=pickle.dumps(spec),
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_compiles_for_a_tpu(found, program):
    assert found[program]["platforms"] == ["tpu"]
    compiled = found[program]["compiled"]
    assert compiled["flops"] > 0
    assert 0 < compiled["argument_bytes"] <= compiled["total_bytes"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_compilers_files_say_the_same_before_there_is_code(found, program):
    compiled, placed = found[program]["compiled"], found[program]["placed"]
    for name in ("argument_bytes", "flops", "collectives"):
        assert placed[name] == compiled[name]
    assert placed["total_bytes"] == pytest.approx(compiled["total_bytes"], rel=0.01)


def test_pictures_on_different_devices_exchange_nothing(found):
    assert found["sampler"]["compiled"]["collectives"] == {}


def test_of_sharded_parameters_the_parameters_travel_and_not_the_pictures(found):
    kinds = set(found["step"]["compiled"]["collectives"])
    assert kinds <= {"all-gather", "all-reduce", "reduce-scatter", "collective-permute"}
    assert "all-gather" in kinds

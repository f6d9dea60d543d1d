"""The forward pass and the sampler compile for a TPU, spread over devices not here."""

import dataclasses
import fcntl
import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from personax.networks.compute import Compute

ROOT = Path(__file__).parents[1]
LOCK = Path("/tmp/libtpu_lockfile")  # libtpu's own: one process at a time
TIMEOUT = 80  # seconds; about 12 on two idle cores


@pytest.fixture(scope="module")
def compiled(tiny_spec):
    """{"platforms", "forward", "sampler"}: what tpu_compile says of the tiny model."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu, the TPU's compiler, is not installed")
    if _held(LOCK):
        pytest.skip(f"another process holds libtpu's lock, {LOCK}")
    spec = dataclasses.replace(tiny_spec, compute=Compute("bfloat16", platform="tpu"))
    # A process of its own: libtpu is loaded once per process and keeps the lock.
    run = subprocess.run(
        [sys.executable, "-m", "tests.tpu_compile"],
        cwd=ROOT,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"},
        input=pickle.dumps(spec),
        capture_output=True,
        timeout=TIMEOUT,
    )
    assert run.returncode == 0, run.stderr.decode()
    return json.loads(run.stdout)


def test_forward_and_sampler_compile_for_a_tpu(compiled):
    assert compiled["platforms"] == ["tpu"]
    for part in ("forward", "sampler"):
        assert compiled[part]["argument_bytes"] > 0
        assert compiled[part]["output_bytes"] > 0
        assert compiled[part]["flops"] > 0


@pytest.mark.parametrize("part", ["forward", "sampler"])
def test_images_on_different_devices_exchange_nothing(compiled, part):
    assert compiled[part]["collectives"] == {}


def _held(lock: Path) -> bool:
    if not lock.exists():
        return False
    with lock.open("r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # POSIX, as libtpu's is
        except OSError:
            return True
    return False

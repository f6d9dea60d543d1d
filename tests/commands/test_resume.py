"""Real processes that are killed or stopped, and resume bitwise."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from PIL import Image
from safetensors.numpy import load_file

from personax.core.files import read_journal
from tests.fast import FAST, WITHOUT_TORCH
from tests.loading.make import write_pipeline

ROOT = pathlib.Path(__file__).parents[2]
# Steps of the smallest model take milliseconds; what is left is starting a process.
STEPS = 40
TINY = [
    "--config.size=8",
    f"--config.steps={STEPS}",
    "--config.save_every=8",
    "--config.batch=2",
    "--config.log_every=1",
    "--config.preview.prompts=()",
    "--config.validation.every=8",
    "--config.validation.count=2",
]


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """Start the command with a work directory; its output goes to files beside it."""
    cache, base = tmp_path_factory.mktemp("xla"), tmp_path_factory.mktemp("base")
    write_pipeline(base, smallest=True)
    environment = {
        **os.environ,
        "PYTHONPATH": WITHOUT_TORCH,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": FAST,
    }

    def begin(workdir, *arguments):
        command = ["personax.train", "--config=configs/quickstart.py"]
        command += [f"--config.base={base}"]
        command += [f"--workdir={workdir}", *TINY, *arguments]
        with (
            workdir.with_suffix(".out").open("w") as out,
            workdir.with_suffix(".err").open("w") as err,
        ):
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=out,
                stderr=err,
                cwd=ROOT,
                env=environment,
            )

    return begin


def finish(process, workdir):
    """(status, stdout, stderr) once the process has ended."""
    status = process.wait(timeout=300)
    output = [workdir.with_suffix(ending).read_text() for ending in (".out", ".err")]
    return status, *output


def complete(start, workdir, *arguments):
    status, out, err = finish(start(workdir, *arguments), workdir)
    assert status == 0, err
    return out


def stop_when(process, due, number=signal.SIGKILL):
    """Send the signal as soon as `due()`, which must be before the process ends."""
    limit = time.monotonic() + 300
    while not due():
        assert process.poll() is None, "the process ended before the signal"
        assert time.monotonic() < limit
        time.sleep(0.001)
    process.send_signal(number)


def lines(workdir):
    file = workdir / "metrics.jsonl"
    return file.read_text().count('"loss"') if file.is_file() else 0


def saved(workdir):
    """The names in the folder of checkpoints, with unfinished ones."""
    folder = workdir / "checkpoints"
    return set(os.listdir(folder)) if folder.is_dir() else set()


def newest(names):
    """The step of the newest finished checkpoint among them."""
    return max(int(name) for name in names if name.isdigit())


def assert_same(workdir, other, steps=STEPS):
    """Compare the metrics and the trained theta, bitwise."""
    logged = read_journal(workdir / "metrics.jsonl")
    assert [line["step"] for line in logged if "loss" in line] == [*range(1, steps + 1)]
    assert logged == read_journal(other / "metrics.jsonl")
    one, two = (
        load_file(folder / "concept" / "theta.safetensors")
        for folder in (workdir, other)
    )
    assert one.keys() == two.keys()
    for name, leaf in one.items():
        assert leaf.tobytes() == two[name].tobytes(), name


@pytest.fixture(scope="module")
def whole(start, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    complete(start, workdir)
    return workdir


def compiling(workdir, before):
    return "training:" in workdir.with_suffix(".err").read_text()


def two_more_steps(workdir, before):
    return lines(workdir) >= newest(before) + 2


def saving(workdir, before):
    return bool(saved(workdir) - before)


def one_more_checkpoint(workdir, before):
    return any(name.isdigit() for name in saved(workdir) - before)


def has_its_concept(workdir, before):
    return (workdir / "concept").is_dir()


KILLS = [
    compiling,
    two_more_steps,
    saving,
    one_more_checkpoint,
    has_its_concept,
]


def test_a_run_that_is_stopped_or_killed_at_any_moment_resumes_bitwise(
    start, whole, tmp_path
):
    workdir = tmp_path / "run"
    process = start(workdir)
    stop_when(process, lambda: lines(workdir) >= 4, signal.SIGTERM)
    status, out, err = finish(process, workdir)
    assert status == 0, err
    step = newest(saved(workdir))
    assert 4 <= step < STEPS
    assert f"Stopped at step {step};" in out
    assert not (workdir / "concept").exists()
    for due in KILLS:
        before = saved(workdir)
        process = start(workdir)
        stop_when(process, lambda due=due, before=before: due(workdir, before))
        assert process.wait() == -signal.SIGKILL, due
    complete(start, workdir)
    assert_same(workdir, whole)
    with Image.open(workdir / "grid.png") as sheet:
        sheet.load()


def test_a_killed_run_with_augmentation_and_priors_resumes_bitwise(start, tmp_path):
    everything = [
        "--config.validation.every=0",
        "--config.data.augment=huggingface",
        "--config.data.flip",
        "--config.prior.source=world",
        "--config.prior.count=4",
        f"--config.prior.cache={tmp_path / 'cache'}",
        "--config.ema_decay=0.9",
        "--config.accumulate=2",
    ]
    other = tmp_path / "other"
    complete(start, other, *everything)
    workdir = tmp_path / "run"
    process = start(workdir, *everything)
    stop_when(process, lambda: lines(workdir) >= 5)
    assert process.wait() == -signal.SIGKILL
    complete(start, workdir, *everything)
    assert_same(workdir, other)


def test_a_finished_run_is_not_trained_again(start, whole):
    before = {path: path.stat().st_mtime_ns for path in whole.glob("*/*")}
    out = complete(start, whole)
    assert f"is finished after {STEPS} steps" in out
    assert "training" not in out
    assert before == {path: path.stat().st_mtime_ns for path in whole.glob("*/*")}


def test_another_config_is_an_error_and_changes_nothing(start, whole):
    before = {path: path.read_bytes() for path in whole.rglob("*") if path.is_file()}
    process = start(whole, "--config.optimizer.learning_rate=1e-3")
    status, _, err = finish(process, whole)
    assert status == 2
    (line,) = [line for line in err.splitlines() if line.startswith("personax:")]
    assert "optimizer.learning_rate was 0.0004 and is 0.001" in line
    assert "Traceback" not in err
    assert before == {path: path.read_bytes() for path in before}


def test_a_diverged_run_fails_and_names_the_last_good_checkpoint(start, tmp_path):
    workdir = tmp_path / "run"
    # The first step of a warmup has the rate 0, so its checkpoint is finite.
    process = start(
        workdir,
        "--config.optimizer.learning_rate=1e35",
        "--config.optimizer.warmup=2",
        "--config.save_every=1",
        "--config.validation.every=0",
    )
    status, _, err = finish(process, workdir)
    assert status == 1
    assert "Traceback" not in err
    (line,) = [line for line in err.splitlines() if line.startswith("personax:")]
    assert f"the last good checkpoint is 1 in {workdir / 'checkpoints'}" in line
    assert saved(workdir) == {"1"}
    assert not (workdir / "concept").exists()

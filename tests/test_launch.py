"""The launch scripts: printed commands, unset variables, preempted spot TPUs."""

import os
import pathlib
import shlex
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted(file for file in (ROOT / "launch").iterdir() if file.suffix)
SCRIPTS = [file for file in FILES if file.suffix in (".sh", ".sbatch")]
ARGUMENTS = ["--config", "configs/quickstart.py", "--config.preview.prompts=('a {}',)"]
TRAIN = ["-m", "personax.train"]
STOPPED = "--stopped_status=75"
NEEDED = {
    "local.sh": [],
    "slurm.sbatch": [],
    "tpu_pod.sh": ["ZONE", "TYPE", "BUCKET"],
    "tpu_spot.sh": ["ZONE", "TYPE", "BUCKET"],
    "xpk.sh": ["CLUSTER", "TYPE", "IMAGE"],
    "jobset.sh": ["IMAGE", "BUCKET", "ACCELERATOR", "TOPOLOGY", "HOSTS"],
}


def launch(name, *arguments, **variables):
    return subprocess.run(
        ["bash", f"launch/{name}", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **variables},
        timeout=60,
    )


def dry_run(name, **variables):
    """The text that a script prints with --dry-run."""
    required = {variable: f"my-{variable.lower()}" for variable in NEEDED[name]}
    process = launch(name, "--dry-run", *ARGUMENTS, **{**required, **variables})
    assert process.returncode == 0, process.stderr
    assert process.stderr == ""
    return process.stdout


def commands(name, **variables):
    """The printed commands, each split into words."""
    text = dry_run(name, **variables)
    # bash quotes words that contain newlines as $'…'.
    return [
        shlex.split(line.replace("$'", "'").replace("\\'", "'\\''"))
        if "$'" in line
        else shlex.split(line)
        for line in text.splitlines()
    ]


def test_every_script_is_tested_and_short():
    assert {file.name for file in SCRIPTS} == {*NEEDED, "step.sh"}
    for file in FILES:
        assert len(file.read_text().splitlines()) < 60, file


def test_they_are_shellcheck_clean():
    check = pathlib.Path(sys.executable).with_name("shellcheck")
    process = subprocess.run(
        [check if check.exists() else "shellcheck", *SCRIPTS],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stdout


@pytest.mark.parametrize("name", [name for name, needed in NEEDED.items() if needed])
def test_an_unset_variable_is_an_error_of_one_line(name):
    variables = dict.fromkeys(NEEDED[name][:-1], "x")
    process = launch(name, "--dry-run", *ARGUMENTS, **variables)
    assert process.returncode == 2
    assert process.stderr.startswith(f"personax: {NEEDED[name][-1]} is not set: ")
    assert process.stderr.count("\n") == 1
    assert process.stdout == ""


def test_one_machine_runs_one_process():
    (command,) = commands("local.sh")
    assert command == ["env", ".venv/bin/python", *TRAIN, *ARGUMENTS]
    (command,) = commands("local.sh", GPUS="0,1")
    assert command[:2] == ["env", "CUDA_VISIBLE_DEVICES=0,1"]


def test_slurm_runs_every_task():
    submit, run = commands("slurm.sbatch", PYTHON="py")
    assert submit == ["sbatch", "launch/slurm.sbatch", *ARGUMENTS]
    assert run[0] == "srun"
    assert run[2:] == ["py", *TRAIN, STOPPED, *ARGUMENTS]


def test_a_pod_is_created_and_runs_on_every_worker():
    create, pack, copy, prepare, run = commands("tpu_pod.sh", NAME="mine")
    node = ["mine", "--zone", "my-zone"]
    assert create[4:9] == ["create", *node, "--accelerator-type"]
    assert pack[0] == "bash"
    assert copy[4:] == ["scp", "/tmp/mine.tgz", "mine:", *node[1:], "--worker=all"]
    for command in (prepare, run):
        assert command[4:10] == ["ssh", *node, "--worker=all", "--command"]
    assert "gcsfuse --implicit-dirs my-bucket runs" in prepare[-1]
    start = ["cd", "personax", "&&", ".venv/bin/python"]
    assert shlex.split(run[-1]) == [*start, *TRAIN, STOPPED, *ARGUMENTS]


def test_a_spot_tpu_is_queued_used_and_deleted():
    create, state, *run, delete = commands("tpu_spot.sh")
    assert create[3:5] == ["queued-resources", "create"]
    assert create[-1] == "--spot"
    assert state[4] == "describe"
    assert run == commands("tpu_pod.sh")[1:]
    assert delete[4:6] == ["delete", "personax"]


def test_xpk_gets_the_command():
    (command,) = commands("xpk.sh", SLICES="2")
    assert command[:3] == ["xpk", "workload", "create"]
    assert command[command.index("--num-slices") + 1] == "2"
    container = shlex.split(command[-1])
    assert container[-len(ARGUMENTS) - 1 :] == [STOPPED, *ARGUMENTS]


def test_the_jobset_is_filled_in():
    first, *rest = dry_run("jobset.sh", HOSTS="4", SLICES="2").splitlines()
    assert first == "# kubectl apply -f -"
    manifest = yaml.safe_load("\n".join(rest))
    (slices,) = manifest["spec"]["replicatedJobs"]
    job = slices["template"]["spec"]
    assert (slices["replicas"], job["parallelism"], job["completions"]) == (2, 4, 4)
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] + container["args"] == [
        *("python", *TRAIN, STOPPED),
        *ARGUMENTS,
    ]
    assert container["resources"]["limits"]["google.com/tpu"] == 4
    assert pod["volumes"][0]["csi"]["volumeAttributes"]["bucketName"] == "my-bucket"


# A fake gcloud in a folder: DIR/state holds the state of the TPU, each line of DIR/ends
# the exit status of one run and the state after it, and DIR/calls the calls.
GCLOUD = """#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "$*" | head -1 >> calls
case "$*" in
  *create*) echo ACTIVE > state ;;
  *delete*) rm state ;;
  *describe*) cat state 2>/dev/null ;;
  *personax.train*)
    read -r status after < ends
    sed -i 1d ends
    echo "$after" > state
    exit "$status" ;;
esac
"""


@pytest.mark.parametrize(
    ("ends", "status", "created", "kept"),
    [
        ("0 ACTIVE\n", 0, 1, False),
        # Preempted without a signal, then stopped by one, then finished.
        ("255 SUSPENDED\n75 ACTIVE\n0 ACTIVE\n", 0, 3, False),
        ("1 ACTIVE\n", 1, 1, True),
    ],
)
def test_a_preempted_spot_tpu_is_created_again(ends, status, created, kept, tmp_path):
    for name, text in (("gcloud", GCLOUD), ("tar", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "ends").write_text(ends)
    variables = {name: f"my-{name.lower()}" for name in NEEDED["tpu_spot.sh"]}
    variables |= {"SETTLE": "0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    process = launch("tpu_spot.sh", *ARGUMENTS, **variables)
    assert process.returncode == status, process.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert sum("queued-resources create" in line for line in calls) == created
    assert (tmp_path / "state").exists() == kept
    assert ("The run failed with status 1" in process.stderr) == kept

"""The launch scripts: what they would run, what they lack, how a spot TPU fares."""

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


def dry(name, **variables):
    """The commands that a script prints, as words."""
    given = {each: f"my-{each.lower()}" for each in NEEDED[name]}
    done = launch(name, "--dry-run", *ARGUMENTS, **{**given, **variables})
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def words(name, **variables):
    text = dry(name, **variables)
    # bash writes a word of several lines as $'…'.
    return [
        shlex.split(line.replace("$'", "'").replace("\\'", "'\\''"))
        if "$'" in line
        else shlex.split(line)
        for line in text.splitlines()
    ]


def test_every_script_is_here_and_short():
    assert {file.name for file in SCRIPTS} == {*NEEDED, "step.sh"}
    for file in FILES:
        assert len(file.read_text().splitlines()) < 60, file


def test_they_are_shellcheck_clean():
    check = pathlib.Path(sys.executable).with_name("shellcheck")
    done = subprocess.run(
        [check if check.exists() else "shellcheck", *SCRIPTS],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [name for name, needed in NEEDED.items() if needed])
def test_what_is_not_set_is_said_in_one_sentence(name):
    given = dict.fromkeys(NEEDED[name][:-1], "x")
    done = launch(name, "--dry-run", *ARGUMENTS, **given)
    assert done.returncode == 2
    assert done.stderr.startswith(f"personax: {NEEDED[name][-1]} is not set: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_one_machine_runs_one_process():
    (command,) = words("local.sh")
    assert command == ["env", ".venv/bin/python", *TRAIN, *ARGUMENTS]
    (command,) = words("local.sh", GPUS="0,1")
    assert command[:2] == ["env", "CUDA_VISIBLE_DEVICES=0,1"]


def test_slurm_runs_every_task():
    submit, run = words("slurm.sbatch", PYTHON="py")
    assert submit == ["sbatch", "launch/slurm.sbatch", *ARGUMENTS]
    assert run[0] == "srun"
    assert run[2:] == ["py", *TRAIN, STOPPED, *ARGUMENTS]


def test_a_pod_is_made_filled_and_run_on_every_worker():
    make, pack, copy, prepare, run = words("tpu_pod.sh", NAME="mine")
    where = ["mine", "--zone", "my-zone"]
    assert make[4:9] == ["create", *where, "--accelerator-type"]
    assert pack[0] == "bash"
    assert copy[4:] == ["scp", "/tmp/mine.tgz", "mine:", *where[1:], "--worker=all"]
    for command in (prepare, run):
        assert command[4:10] == ["ssh", *where, "--worker=all", "--command"]
    assert "gcsfuse --implicit-dirs my-bucket runs" in prepare[-1]
    told = shlex.split(run[-1])
    start = ["cd", "personax", "&&", ".venv/bin/python"]
    assert told == [*start, *TRAIN, STOPPED, *ARGUMENTS]


def test_a_spot_tpu_is_queued_run_on_and_deleted():
    make, state, *run, delete = words("tpu_spot.sh")
    assert make[3:5] == ["queued-resources", "create"]
    assert make[-1] == "--spot"
    assert state[4] == "describe"
    assert run == words("tpu_pod.sh")[1:]
    assert delete[4:6] == ["delete", "personax"]


def test_xpk_gets_the_command():
    (command,) = words("xpk.sh", SLICES="2")
    assert command[:3] == ["xpk", "workload", "create"]
    assert command[command.index("--num-slices") + 1] == "2"
    told = shlex.split(command[-1])
    assert told[-len(ARGUMENTS) - 1 :] == [STOPPED, *ARGUMENTS]


def test_the_jobset_is_filled_in():
    first, *rest = dry("jobset.sh", HOSTS="4", SLICES="2").splitlines()
    assert first == "# kubectl apply -f -"
    found = yaml.safe_load("\n".join(rest))
    (slices,) = found["spec"]["replicatedJobs"]
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


# A cloud in a folder: DIR/state is the TPU's, and each line of DIR/ends is how one run
# ends, with the status and the state afterwards.
GCLOUD = """#!/usr/bin/env bash
cd "$(dirname "$0")"
echo "$*" | head -1 >> said
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
    ("ends", "status", "made", "left"),
    [
        ("0 ACTIVE\n", 0, 1, False),
        # Taken away without a word, then told to stop, then done.
        ("255 SUSPENDED\n75 ACTIVE\n0 ACTIVE\n", 0, 3, False),
        ("1 ACTIVE\n", 1, 1, True),
    ],
)
def test_a_spot_tpu_that_is_taken_away_is_made_again(
    ends, status, made, left, tmp_path
):
    for name, text in (("gcloud", GCLOUD), ("tar", "#!/bin/sh\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "ends").write_text(ends)
    given = {each: f"my-{each.lower()}" for each in NEEDED["tpu_spot.sh"]}
    given |= {"SETTLE": "0", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = launch("tpu_spot.sh", *ARGUMENTS, **given)
    assert done.returncode == status, done.stderr
    said = (tmp_path / "said").read_text().splitlines()
    assert sum("queued-resources create" in line for line in said) == made
    assert (tmp_path / "state").exists() == left
    assert ("The run failed with status 1" in done.stderr) == left

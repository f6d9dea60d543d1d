"""Kill commands at random moments, start them again, and compare what they write.

    python -m benchmarks.kills --count 50
    python -m benchmarks.kills --count 20 --full_disk  # as root: mounts a tmpfs

SIGKILL arrives at a random time of the run, or right after a random change in its
folder. Then the same command is started on that folder, until it ends by itself; what
it wrote must be equal to the byte to that of a run that nothing interrupted. With
--full_disk the disk is filled at that moment instead: the command must end with one
line, and complete the folder once there is room. Exits with status 1 after a failure;
the folder and the output are kept. Results are in docs/reliability.md.
"""

import contextlib
import os
import pathlib
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from absl import app, flags

from benchmarks import resumable
from benchmarks.resumable import Command

FLAGS = flags.FLAGS
_NAMES = ("train", "prior", "evaluate", "cache", "search")


class Reference(NamedTuple):
    """What an uninterrupted run of a command writes, and how long it takes."""

    results: Mapping[str, str]
    seconds: float
    changes: int  # of its folder, as `_changes` sees them


class Trial(NamedTuple):
    """A command that is interrupted, the folder of its files, and its moments."""

    name: str
    command: Command
    place: pathlib.Path
    reference: Reference
    rng: random.Random


def define_flags() -> None:
    flags.DEFINE_integer("count", 50, "Interruptions of each command.", 1)
    flags.DEFINE_multi_enum("command", list(_NAMES), _NAMES, "Which commands.")
    flags.DEFINE_bool("full_disk", False, "Fill the disk instead of killing.")
    flags.DEFINE_integer("megabytes", 64, "Size of the disk.", 1)
    flags.DEFINE_integer("seed", 0, "Of the moments.")
    flags.DEFINE_string("out", "out/kills", "Folder of failed runs.")


def main(_):
    failures = 0
    with tempfile.TemporaryDirectory() as scratch:
        place = pathlib.Path(scratch)
        commands = resumable.commands(place)
        for name in FLAGS.command:
            failures += _try(name, commands[name], place)
    raise SystemExit(bool(failures))


def _try(name: str, command: Command, place: pathlib.Path) -> int:
    """Interrupt one command; print a line of figures and return its failures."""
    rng = random.Random(f"{FLAGS.seed} {name}")
    interrupt = _fill_disks if FLAGS.full_disk else _kill
    begin = time.monotonic()
    reference = _whole(command, place / f"{name}-whole")
    runs, failed = interrupt(Trial(name, command, place, reference, rng))
    what = "full disks" if FLAGS.full_disk else "kills"
    print(
        f"{name}: {FLAGS.count} {what} in {runs} runs of {reference.seconds:.0f} s, "
        f"{failed} failures, {(time.monotonic() - begin) / 60:.0f} minutes",
        flush=True,
    )
    return failed


def _whole(command: Command, folder: pathlib.Path) -> Reference:
    """Two runs without an interruption; the second finds the programs compiled."""
    results = None
    for turn in range(2):
        shutil.rmtree(folder, ignore_errors=True)
        begin, changes = time.monotonic(), 0
        process = resumable.start(command.arguments(folder), folder)
        for _ in _changes(process, folder):
            changes += 1
        if process.returncode:
            raise SystemExit(folder.with_suffix(".err").read_text())
        if turn and results != command.results(folder):
            raise SystemExit(f"Two uninterrupted runs of {folder.name} differ.")
        results = command.results(folder)
    return Reference(results, time.monotonic() - begin, changes)


def _kill(trial: Trial) -> tuple[int, int]:
    """(runs that ended by themselves, failures) after `count` kills."""
    kills = runs = failed = 0
    name, command, place, reference, rng = trial
    folder = place / name
    while kills < FLAGS.count or folder.exists():
        process = resumable.start(command.arguments(folder), folder)
        if kills < FLAGS.count and _reached(process, folder, reference, rng):
            os.killpg(process.pid, signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            continue
        runs += 1
        failed += not _compare(process, command, folder, reference)
        _clear(folder)
    return runs, failed


def _fill_disks(trial: Trial) -> tuple[int, int]:
    """(runs, failures) after the disk was full `count` times."""
    name, command, place, reference, rng = trial
    failed = 0
    for _ in range(FLAGS.count):
        with _small_disk(place / "disk") as disk:
            folder, log = disk / name, place / name
            process = resumable.start(command.arguments(folder), log)
            if _reached(process, folder, reference, rng):
                _fill(disk / "filler", rng.randrange(64 * 1024))
            status = process.wait()
            lines = log.with_suffix(".err").read_text().splitlines()
            said = [line for line in lines if line.startswith("personax: ")]
            clear = not status or (said and "Traceback" not in "\n".join(lines))
            (disk / "filler").unlink(missing_ok=True)
            again = resumable.start(command.arguments(folder), log)
            whole = _compare(again, command, folder, reference, log)
            if not clear:
                _keep(folder, log, f"status {status} without one clear line")
            failed += not (clear and whole)
            _clear(log)
    return FLAGS.count, failed


def _reached(
    process: subprocess.Popen,
    folder: pathlib.Path,
    reference: Reference,
    rng: random.Random,
) -> bool:
    """Wait for a random moment of the run; False if the process ends before."""
    if rng.random() < 0.5:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(rng.uniform(0, reference.seconds))
        return process.poll() is None
    number = rng.randrange(1, max(2, reference.changes))
    for count, _ in enumerate(_changes(process, folder), 1):
        if count == number:
            return process.poll() is None
    return False


def _changes(process: subprocess.Popen, folder: pathlib.Path) -> Iterator[None]:
    """One item for each change in the folder that is seen while the process runs."""
    before = _listing(folder)
    while process.poll() is None:
        now = _listing(folder)
        if now != before:
            before = now
            yield
        time.sleep(0.001)


def _listing(folder: pathlib.Path) -> set[tuple[str, int]]:
    """(path, length) of every file; those that vanish meanwhile are left out."""
    found = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            with contextlib.suppress(OSError):
                found.add((path, os.stat(path).st_size))
    return found


def _compare(
    process: subprocess.Popen,
    command: Command,
    folder: pathlib.Path,
    reference: Reference,
    log: pathlib.Path | None = None,
) -> bool:
    """Whether the process ends well, and its folder holds what it should."""
    status, log = process.wait(), log or folder
    if status:
        _keep(folder, log, f"status {status} of the same command")
        return False
    results = command.results(folder)
    if results != reference.results:
        keys = results.keys() | reference.results.keys()
        other = [x for x in keys if results.get(x) != reference.results.get(x)]
        _keep(folder, log, f"other {', '.join(sorted(other))}")
        return False
    return True


def _keep(folder: pathlib.Path, log: pathlib.Path, why: str) -> None:
    """Copy a failed run's folder and output to --out."""
    out = pathlib.Path(FLAGS.out) / f"{log.name}-{time.time_ns()}"
    shutil.copytree(folder, out, dirs_exist_ok=True)
    for suffix in (".out", ".err"):
        shutil.copy(log.with_suffix(suffix), out.with_suffix(suffix))
    last = log.with_suffix(".err").read_text().splitlines()[-1:]
    print(f"{log.name}: {why}; {' '.join(last)} (kept in {out})", flush=True)


def _clear(folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for suffix in (".out", ".err"):
        folder.with_suffix(suffix).unlink(missing_ok=True)


@contextlib.contextmanager
def _small_disk(place: pathlib.Path) -> Iterator[pathlib.Path]:
    """A file system in memory, mounted at `place`."""
    place.mkdir(exist_ok=True)
    size = f"size={FLAGS.megabytes}m"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def _fill(file: pathlib.Path, rest: int) -> None:
    """Write a file until the disk has at most `rest` bytes."""
    with file.open("wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(2**16))
    with file.open("rb+") as out:
        out.truncate(max(0, out.seek(0, os.SEEK_END) - rest))


if __name__ == "__main__":
    define_flags()
    app.run(main)

"""Damaged files for every reader: `python -m benchmarks.fuzz --minutes 1`.

Each reader must read a file, or refuse it with a ValueError or a FileNotFoundError that
names it. Anything else is an escape: another exception, a message without a name, more
than SLOWEST seconds, more memory than MOST, or the end of the process. Each escape's
first input is saved below --out. The exit status is 1 with escapes.

A reader runs in a process of its own. Input i of a reader and a seed is always the same
as long as the seeds' files are: `--first i` begins there.
"""

import argparse
import importlib
import multiprocessing
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import tempfile
import time
import traceback
import warnings
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from benchmarks.fuzz_readers import READERS, Files, Reader
from benchmarks.mutate import mutate

SLOWEST = 20.0  # seconds for one input
MOST = 2 * 2**30  # bytes of address space beyond those of an idle reader
_FOLDER = "input"
_READERS = "benchmarks.fuzz_readers"


class Escape(NamedTuple):
    """What a reader did with an input that it should have refused."""

    index: int
    what: str  # equal for inputs that escape at the same place
    message: str
    files: Files


class Report(NamedTuple):
    """The result of one reader."""

    tried: int
    read: int  # inputs that were read, not refused
    escapes: list[Escape]


def fuzz(
    name: str,
    *,
    seconds: float,
    seed: int = 0,
    first: int = 0,
    slowest: float = SLOWEST,
    module: str = _READERS,
) -> Report:
    """Try a reader on damaged files for some seconds, from input number `first`.

    `module` has the table READERS. Raises RuntimeError if the reader does not read the
    files that are damaged as they are.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([module])
    tried, read, escapes = 0, 0, []
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        ours, theirs = context.Pipe(duplex=False)
        # (the input's number, inputs read, seconds at its start); 0 while preparing.
        board = context.Array("d", [first, 0, 0], lock=False)
        process = context.Process(
            target=_work, args=(module, name, seed, first, board, theirs), daemon=True
        )
        process.start()
        theirs.close()
        while process.is_alive() and not board[2]:
            time.sleep(0.01)
        deadline = deadline or time.monotonic() + seconds
        end = _watch(process, ours, board, deadline, slowest, escapes)
        index, inputs_read, _ = (int(x) for x in board)
        tried, read = tried + index - first, read + inputs_read
        first = index + 1
        if end is not None:
            if not board[2]:
                raise RuntimeError(f"{name}: {end} before any damage")
            tried += 1
            files = damaged(_reader(module, name), seed, index)
            escapes.append(Escape(index, end, "", files))
    return Report(tried, read, escapes)


def damaged(reader: Reader, seed: int, index: int) -> Files:
    """Input number `index`: the files of one of the reader's seeds, one changed.

    Files whose name begins with "_" are needed by the reader, and left as they are.
    """
    seeds = reader.seeds()
    rng = random.Random(f"{seed} {index}")
    files = rng.choice(seeds)
    open_to_damage = [each for each in files if not each.startswith("_")]
    chosen = rng.choice(open_to_damage)
    alike = [each for own in seeds for each in own.values()]
    return {**files, chosen: mutate(files[chosen], rng, alike)}


def _reader(module: str, name: str) -> Reader:
    return importlib.import_module(module).READERS[name]


def _watch(
    process: Any,
    pipe: Connection,
    board: Any,
    deadline: float,
    slowest: float,
    escapes: list[Escape],
) -> str | None:
    """Collect escapes until the deadline, or until the process ends or hangs: how."""
    while True:
        try:
            while pipe.poll(0.05):
                escapes.append(pipe.recv())
        except EOFError:
            process.join()
            if process.exitcode and process.exitcode > 0:
                return f"exit status {process.exitcode}"
            return f"killed by {signal.Signals(-process.exitcode).name}"
        hangs = time.monotonic() - board[2] > slowest
        if hangs or time.monotonic() > deadline:
            process.kill()
            process.join()
            return f"more than {slowest:g} s" if hangs else None


def _work(
    module: str, name: str, seed: int, first: int, board: Any, pipe: Connection
) -> None:
    memory = pathlib.Path("/dev/shm")  # quicker than a disk
    place = str(memory) if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=place) as scratch:
        os.environ["HOME"] = scratch
        warnings.simplefilter("ignore")
        folder = pathlib.Path(scratch, _FOLDER)
        reader = _reader(module, name)
        for files in reader.seeds():
            _write(folder, files)
            reader.read(folder)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what readers and libraries say
        used = int(pathlib.Path("/proc/self/statm").read_text().split()[0])
        limit = used * resource.getpagesize() + MOST
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        index, seen = first, set()
        while True:
            files = damaged(reader, seed, index)
            _write(folder, files)
            board[0], board[2] = index, time.monotonic()
            try:
                reader.read(folder)
                board[1] += 1
            except Exception as error:
                what = _escaped(error, files)
                if what and what not in seen:
                    seen.add(what)
                    pipe.send(Escape(index, what, str(error), files))
            index += 1


def _write(folder: pathlib.Path, files: Files) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _escaped(error: Exception, files: Files) -> str:
    """What escaped and where; "" for the refusal of a file by its name."""
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return ""  # ours, of a file that another one names
    if type(error) is ValueError:
        names = (pathlib.PurePath(each).stem.lstrip("_") for each in files)
        # Or a path that one of the files names.
        named = re.search(r"(^| )/", str(error))
        if named or any(name in str(error) for name in (_FOLDER, *names)):
            return ""
        return f"{_place(error)}: {type(error).__name__} that names no file"
    return f"{_place(error)}: {type(error).__name__}"


def _place(error: BaseException) -> str:
    """The innermost line of this project that an error passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "personax" in frame.filename]
    frame = (own or frames)[-1]
    return f"{pathlib.Path(frame.filename).name}:{frame.lineno}"


def _save(out: pathlib.Path, name: str, escape: Escape) -> pathlib.Path:
    folder = out / name / str(escape.index)
    _write(folder, escape.files)
    return folder


def main() -> None:
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    parser = argparse.ArgumentParser(description="Damaged files for readers")
    parser.add_argument("--minutes", type=float, default=1, help="for all readers")
    parser.add_argument("--reader", nargs="+", default=list(READERS), choices=READERS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the input")
    parser.add_argument("--out", type=pathlib.Path, default="out/fuzz")
    given = parser.parse_args()
    share, total, escaped = 60 * given.minutes / len(given.reader), 0, 0
    for name in given.reader:
        try:
            report = fuzz(name, seconds=share, seed=given.seed, first=given.first)
        except RuntimeError as error:
            print(error, flush=True)
            escaped += 1
            continue
        distinct = {escape.what: escape for escape in reversed(report.escapes)}
        print(
            f"{name}: {report.tried:,} files, {report.read:,} read, "
            f"{len(distinct)} escapes",
            flush=True,
        )
        for escape in distinct.values():
            folder = _save(given.out, name, escape)
            text = " ".join(escape.message.split())[:150]
            print(f"  {escape.what} ({folder}): {text}", flush=True)
        total, escaped = total + report.tried, escaped + len(distinct)
    print(f"{total:,} files, {len(given.reader)} readers, {escaped} escapes")
    raise SystemExit(1 if escaped else 0)


if __name__ == "__main__":
    main()

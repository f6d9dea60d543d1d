"""TPU compiler analysis of training and sampling at SD 1.5's size.

    python -m benchmarks.tpu_compile --out runs/tpu
    python -m benchmarks.tpu_compile --programs full --topologies v5e:4x4 --fsdp 1,all

libtpu compiles for described devices, so no TPU is needed: all figures are from the
compiler, none is measured. A line of `table.jsonl` is one program for one mesh; cases
with a line are skipped, so rerunning the command resumes. `table.md` shows all of them.
Figures are per device, and a loop's body counts once.

The compiler is stopped after buffer assignment, before it emits code, which takes ten
times as long. With `--code` it runs to the end and also reports bytes accessed with
padding and optimal seconds.
"""

import collections
import dataclasses
import fcntl
import itertools
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

import jax
from absl import app, flags
from jax.stages import Compiled
from jaxlib import _hlo, _jax

from benchmarks import tpu_programs
from benchmarks.tpu_programs import METHODS, Case

HBM = {"v4": 32, "v5e": 16, "v5p": 95, "v6e": 32}  # GB of a chip
LOCK = pathlib.Path("/tmp/libtpu_lockfile")  # libtpu's own: one process at a time
# Written in this order, the last one before the compiler emits code.
_PLACED = "after_optimizations-buffer-assignment.txt"
_PROGRAM = "after_optimizations_after_buffer_assignment.txt"
_ALLOCATION = re.compile(r"^allocation \d+: size (\d+), (.*)", re.MULTILINE)
_COLLECTIVE = re.compile(
    r"(?:all-gather|all-reduce|all-to-all|reduce-scatter|collective-permute"
    r"|collective-broadcast)(?=(?:-start)?\()"
)
_TOO_LARGE = re.compile(r"Used ([\d.]+)([MG]) of ([\d.]+)([MG]) hbm")

Figures = dict[str, Any]


def main(argv):
    if flags.FLAGS.case:
        compile_here(Case(**json.loads(flags.FLAGS.case)))
        return
    folder = pathlib.Path(flags.FLAGS.out)
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "table.jsonl"
    done = read(table)
    until = time.monotonic() + 60 * flags.FLAGS.minutes
    for case in cases():
        if case not in done and time.monotonic() < until:
            done[case] = compile_apart(case)
            line = json.dumps(dataclasses.asdict(case) | done[case])
            with table.open("a") as file:
                file.write(f"{line}\n")
            print(line, flush=True)
            (folder / "table.md").write_text(markdown(done))


def cases() -> Iterator[Case]:
    """The product of the flags; fields that a program lacks keep their defaults."""
    options = flags.FLAGS
    names = ("programs", "topologies", "fsdp", "remat", "optimizers", "images")
    seen = set()
    for program, place, fsdp, remat, optimizer, images in itertools.product(
        *(getattr(options, name) for name in names)
    ):
        topology, _, slices = place.partition("*")
        devices = math.prod(map(int, topology.partition(":")[2].split("x")))
        case = Case(program, topology, int(slices or 1), images=int(images))
        if program in METHODS:
            case = dataclasses.replace(
                case,
                fsdp=devices if fsdp == "all" else int(fsdp),
                remat=remat,
                optimizer=optimizer,
                ema=program == "null_text",
            )
        case = dataclasses.replace(
            case, attention=options.attention, param_dtype=options.param_dtype
        )
        if case not in seen and devices % case.fsdp == 0:
            seen.add(case)
            yield case


def compile_apart(case: Case) -> Figures:
    """The case's figures, from a separate process.

    libtpu keeps its programs in memory, and stopping a compilation needs a kill.
    """
    with tempfile.TemporaryDirectory() as dump, tempfile.TemporaryFile("w+") as log:
        while held(LOCK):
            time.sleep(1)
        begun = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.tpu_compile", f"--dump={dump}"),
                *(f"--case={json.dumps(dataclasses.asdict(case))}", f"--out={dump}"),
                f"--code={flags.FLAGS.code}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            ended = _wait(process, pathlib.Path(dump))
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        text = log.read()
        figures: Figures = {}
        for line in text.splitlines():
            if line.startswith("{"):
                figures |= json.loads(line)
        if ended == "placed":
            figures |= placed(pathlib.Path(dump))
        elif ended != "done":
            figures["error"] = ended
        elif (large := _TOO_LARGE.search(text)) is not None:
            figures |= {"total_bytes": _size(*large.groups()[:2]), "fits": False}
        elif "flops" not in figures:
            raise SystemExit(f"{text}\npersonax: The compiler failed for {case}.")
    return figures | {"seconds": round(time.monotonic() - begun)}


def _wait(process: subprocess.Popen, dump: pathlib.Path) -> str:
    """The process's end: "done", "placed" or an error message."""
    limit = flags.FLAGS.memory_gib
    while process.poll() is None:
        time.sleep(2)
        if not flags.FLAGS.code and list(dump.glob(f"*{_PROGRAM}")):
            time.sleep(5)  # until the file is complete
            return "placed"
        if resident(process.pid) > limit * 2**30:
            return f"The compiler used more than {limit} GiB."
    return "done"


def compile_here(case: Case) -> None:
    """Print the figures known before compilation, then those of the program."""
    mesh = tpu_programs.describe(case.topology, case.slices, case.fsdp)
    program = tpu_programs.lower(case, mesh, tpu_programs.sd15(case, mesh))
    print(json.dumps({"idle_bytes": program.idle_bytes}), flush=True)
    compiled = program.lowered.compile(dumping(flags.FLAGS.dump))
    print(json.dumps(figures(compiled)), flush=True)


def dumping(folder: str) -> dict[str, Any]:
    """The compiler's options for the files that `placed` reads."""
    return {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}


def figures(compiled: Compiled) -> Figures:
    """Bytes and FLOPs per device, and the collectives, of a compiled program.

    `optimal_seconds` is the compiler's estimate. It counts -1 for each opaque
    operation, such as a Pallas kernel; these `unseen` operations are excluded here,
    which is valid for programs of less than a second.
    """
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    values = {
        "argument_bytes": memory.argument_size_in_bytes,
        "total_bytes": memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        + memory.temp_size_in_bytes
        - memory.alias_size_in_bytes,
        "flops": cost["flops"],
        "bytes_accessed": cost["bytes accessed"],
        "collectives": collectives(compiled.as_text()),
    }
    optimal = cost.get("optimal_seconds", math.nan)
    if math.isfinite(optimal):
        unseen = max(math.ceil(-optimal), 0)
        values |= {"optimal_seconds": optimal + unseen, "unseen": unseen}
    return values


def placed(dump: pathlib.Path) -> Figures:
    """The figures of a stopped compilation, from the compiler's files.

    Bytes accessed are those of the arrays, without the padding of tiles.
    """
    (text,) = (path.read_text() for path in dump.glob(f"*{_PROGRAM}"))
    (buffers,) = (path.read_text() for path in dump.glob(f"*{_PLACED}"))
    # Buffers without a colour are in HBM, except thread-local ones.
    sizes = [
        (int(size), what)
        for size, what in _ALLOCATION.findall(buffers)
        if "color" not in what and "thread-local" not in what
    ]
    cost = _jax.hlo_module_cost_analysis(
        jax.devices("cpu")[0].client, _hlo.hlo_module_from_text(text)
    )
    return {
        "argument_bytes": sum(size for size, what in sizes if "parameter" in what),
        "total_bytes": sum(size for size, _ in sizes),
        "flops": cost["flops"],
        "array_bytes_accessed": cost["bytes accessed"],
        "collectives": collectives(text),
    }


def collectives(program: str) -> dict[str, int]:
    """{kind: count} in a compiled program's text."""
    return dict(collections.Counter(_COLLECTIVE.findall(program)).most_common())


def read(table: pathlib.Path) -> dict[Case, Figures]:
    """{case: its figures} of a table, {} without one."""
    cases = {}
    fields = [field.name for field in dataclasses.fields(Case)]
    for line in table.read_text().splitlines() if table.exists() else ():
        values = json.loads(line)
        case = Case(**{name: values.pop(name) for name in fields})
        cases[case] = values
    return cases


def markdown(cases: Mapping[Case, Figures]) -> str:
    """The table, sizes in GiB: `state` is read by the step, `base` is not."""
    columns = (
        *("program", "devices", "mesh", "images", "remat", "optimizer", "attention"),
        *("state", "all", "base", "fits", "TFLOP", "GB accessed", "optimal s"),
        *("unseen", "collectives"),
    )
    rows = [columns, ("---",) * len(columns)]
    rows += [_row(case, values) for case, values in cases.items()]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(case: Case, values: Figures) -> tuple[str, ...]:
    steps = case.program in METHODS
    place = f"{case.topology}*{case.slices}" if case.slices > 1 else case.topology

    def number(name: str, unit: float, digits: int) -> str:
        return f"{values[name] / unit:.{digits}f}" if name in values else ""

    accessed = number("bytes_accessed", 1e9, 1)
    counts = values.get("collectives", {})
    return (
        case.program,
        place,
        f"fsdp {case.fsdp}" if case.fsdp > 1 else "data",
        str(case.images),
        case.remat if steps else "",
        case.optimizer + ", average" * case.ema if steps else "",
        case.attention,
        number("argument_bytes", 2**30, 2),
        number("total_bytes", 2**30, 2),
        number("idle_bytes", 2**30, 2),
        values.get("error") or ("yes" if fits(case, values) else "no"),
        number("flops", 1e12, 2),
        accessed or number("array_bytes_accessed", 1e9, 1),
        number("optimal_seconds", 1, 3),
        str(values.get("unseen", "")),
        ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "none",
    )


def fits(case: Case, values: Figures) -> bool:
    """Whether the program and the idle parameters fit on the chip.

    A GB is 10^9 bytes here, which leaves the runtime a margin of a twelfth.
    """
    room = HBM[case.topology.partition(":")[0]] * 10**9
    needed = values.get("total_bytes", room) + values["idle_bytes"]
    return values.get("fits", True) and needed <= room


def held(lock: pathlib.Path) -> bool:
    """Whether another process holds libtpu's lock."""
    if not lock.exists():
        return False
    with lock.open("r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # POSIX, as libtpu's is
        except OSError:
            return True
    return False


def resident(pid: int) -> int:
    """The resident bytes of a process, 0 if it has ended."""
    try:
        pages = pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return int(pages) * os.sysconf("SC_PAGESIZE")


def _size(number: str, unit: str) -> int:
    return round(float(number) * {"M": 2**20, "G": 2**30}[unit])


def define_flags() -> None:
    """The benchmark's flags; a function, so that importing this file defines none."""
    many = flags.DEFINE_list
    many("programs", [*METHODS, "sampler"], "Programs to compile.")
    many(
        "topologies",
        "v5e:2x4,v5e:2x4*2,v5e:4x4,v5e:16x16,v5p:2x2x2,v6e:2x4",
        "Described TPUs; *2: two slices.",
    )
    many("fsdp", "1,2,4,8,all", "Devices that share a copy of the trained parameters.")
    many("remat", "layer,block,none", "What is recomputed.")
    many("optimizers", "adamw,adamw_8bit,adafactor", "Optimizers.")
    many("images", "1", "Images on each device.")
    flags.DEFINE_string("attention", "auto", "The attention kernel.")
    flags.DEFINE_string("param_dtype", "bfloat16", "Dtype of the frozen base.")
    flags.DEFINE_bool("code", False, "Let the compiler emit code.")
    flags.DEFINE_float("minutes", math.inf, "Start no case after this many minutes.")
    flags.DEFINE_float("memory_gib", 16.0, "Memory limit of the compiler.")
    flags.DEFINE_string("out", "runs/tpu", "Folder of the table.")
    flags.DEFINE_string("case", None, "Internal: compile this one here.")
    flags.DEFINE_string("dump", None, "Internal: where the compiler's files go.")


if __name__ == "__main__":
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    jax.config.update("jax_platforms", "cpu")
    define_flags()
    app.run(main)

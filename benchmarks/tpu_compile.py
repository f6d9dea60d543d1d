"""What the compiler for TPUs says of training and drawing at SD 1.5's size.

    python -m benchmarks.tpu_compile --out runs/tpu
    python -m benchmarks.tpu_compile --programs full --topologies v5e:4x4 --fsdp 1,all

libtpu compiles for devices that are only described to it, so no TPU is needed: every
figure is compiled, none measured. A line of `table.jsonl` is one program for one mesh;
what has a line is not compiled again, so a command that was stopped goes on. `table.md`
shows them all. Figures are one device's, and a loop's body counts once.

The compiler is stopped when it has decided what is computed and what lies where, before
it emits code, which takes ten times as long. `--code` lets it go on: its own account of
bytes accessed, padding included, and its optimal seconds come with the code.
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
# Written in this order, the last before the compiler emits code.
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
    found = read(table)
    until = time.monotonic() + 60 * flags.FLAGS.minutes
    for case in cases():
        if case not in found and time.monotonic() < until:
            found[case] = compile_apart(case)
            line = json.dumps(dataclasses.asdict(case) | found[case])
            with table.open("a") as file:
                file.write(f"{line}\n")
            print(line, flush=True)
            (folder / "table.md").write_text(markdown(found))


def cases() -> Iterator[Case]:
    """What the flags ask for; what a program does not have stays at its default."""
    given = flags.FLAGS
    names = ("programs", "topologies", "fsdp", "remat", "optimizers", "images")
    seen = set()
    for program, place, fsdp, remat, optimizer, images in itertools.product(
        *(getattr(given, name) for name in names)
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
            case, attention=given.attention, param_dtype=given.param_dtype
        )
        if case not in seen and devices % case.fsdp == 0:
            seen.add(case)
            yield case


def compile_apart(case: Case) -> Figures:
    """The case's figures, from a process of its own.

    libtpu keeps what it compiled, and a compiler that is to stop has to be ended.
    """
    with tempfile.TemporaryDirectory() as dump, tempfile.TemporaryFile("w+") as said:
        while held(LOCK):
            time.sleep(1)
        begun = time.monotonic()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.tpu_compile", f"--dump={dump}"),
                *(f"--case={json.dumps(dataclasses.asdict(case))}", f"--out={dump}"),
                f"--code={flags.FLAGS.code}",
            ],
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            ended = _wait(process, pathlib.Path(dump))
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        text = said.read()
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
    """How the process came to its end: "done", "placed" or what was the matter."""
    limit = flags.FLAGS.memory_gib
    while process.poll() is None:
        time.sleep(2)
        if not flags.FLAGS.code and list(dump.glob(f"*{_PROGRAM}")):
            time.sleep(5)  # until the file is whole
            return "placed"
        if resident(process.pid) > limit * 2**30:
            return f"The compiler took more than {limit} GiB."
    return "done"


def compile_here(case: Case) -> None:
    """Prints what is known before compiling, and where it ends, what is after it."""
    mesh = tpu_programs.describe(case.topology, case.slices, case.fsdp)
    program = tpu_programs.lower(case, mesh, tpu_programs.sd15(case, mesh))
    print(json.dumps({"idle_bytes": program.idle_bytes}), flush=True)
    compiled = program.lowered.compile(dumping(flags.FLAGS.dump))
    print(json.dumps(figures(compiled)), flush=True)


def dumping(folder: str) -> dict[str, Any]:
    """The compiler's options for the files that `placed` reads."""
    return {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}


def figures(compiled: Compiled) -> Figures:
    """Of a compiled program: a device's bytes and FLOPs, and the collectives.

    `optimal_seconds` is the compiler's own estimate. It adds -1 for each operation that
    it cannot see into, such as a Pallas kernel: `unseen` of them are left out here,
    which holds for programs of less than a second.
    """
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    found = {
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
        found |= {"optimal_seconds": optimal + unseen, "unseen": unseen}
    return found


def placed(dump: pathlib.Path) -> Figures:
    """The same of a program whose code was not waited for, from the compiler's files.

    Bytes accessed are those of the arrays themselves, without the padding of tiles.
    """
    (text,) = (path.read_text() for path in dump.glob(f"*{_PROGRAM}"))
    (buffers,) = (path.read_text() for path in dump.glob(f"*{_PLACED}"))
    # Without a colour a buffer is in HBM, which a thread-local one never is.
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
    """{kind: how many} in a compiled program's text."""
    return dict(collections.Counter(_COLLECTIVE.findall(program)).most_common())


def read(table: pathlib.Path) -> dict[Case, Figures]:
    """{case: its figures} of the lines that are there."""
    found = {}
    fields = [field.name for field in dataclasses.fields(Case)]
    for line in table.read_text().splitlines() if table.exists() else ():
        values = json.loads(line)
        case = Case(**{name: values.pop(name) for name in fields})
        found[case] = values
    return found


def markdown(found: Mapping[Case, Figures]) -> str:
    """The table: sizes in GiB, `state` what a step is given, `base` what it is not."""
    columns = (
        *("program", "devices", "mesh", "images", "remat", "optimizer", "attention"),
        *("state", "all", "base", "fits", "TFLOP", "GB accessed", "optimal s"),
        *("unseen", "collectives"),
    )
    rows = [columns, ("---",) * len(columns)]
    rows += [_row(case, values) for case, values in found.items()]
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
    """Whether the program and what lies beside it find room on the chip.

    A GB is 10^9 bytes here, which leaves a twelfth to the runtime.
    """
    room = HBM[case.topology.partition(":")[0]] * 10**9
    needed = values.get("total_bytes", room) + values["idle_bytes"]
    return values.get("fits", True) and needed <= room


def held(lock: pathlib.Path) -> bool:
    """Whether another process has libtpu."""
    if not lock.exists():
        return False
    with lock.open("r+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # POSIX, as libtpu's is
        except OSError:
            return True
    return False


def resident(pid: int) -> int:
    """The bytes of memory that a process has, 0 of one that is gone."""
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
    many("programs", [*METHODS, "sampler"], "What is compiled.")
    many(
        "topologies",
        "v5e:2x4,v5e:2x4*2,v5e:4x4,v5e:16x16,v5p:2x2x2,v6e:2x4",
        "The described TPUs; *2: two slices of them.",
    )
    many("fsdp", "1,2,4,8,all", "Devices that share a copy of what trains.")
    many("remat", "layer,block,none", "What is computed again.")
    many("optimizers", "adamw,adamw_8bit,adafactor", "Whose state is kept.")
    many("images", "1", "On each device.")
    flags.DEFINE_string("attention", "auto", "The attention kernel.")
    flags.DEFINE_string("param_dtype", "bfloat16", "Of the frozen base.")
    flags.DEFINE_bool("code", False, "Let the compiler emit code.")
    flags.DEFINE_float("minutes", math.inf, "Begin nothing after so many.")
    flags.DEFINE_float("memory_gib", 16.0, "What the compiler may take.")
    flags.DEFINE_string("out", "runs/tpu", "Folder of the table.")
    flags.DEFINE_string("case", None, "Internal: compile this one here.")
    flags.DEFINE_string("dump", None, "Internal: where the compiler's files go.")


if __name__ == "__main__":
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    jax.config.update("jax_platforms", "cpu")
    define_flags()
    app.run(main)

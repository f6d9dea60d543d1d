"""Several processes as one run: how they find each other, agree, and end together."""

import contextlib
import importlib.util
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TextIO, TypeVar

import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils

from personax.training import stderr_filter

T = TypeVar("T")

_LONGEST = 4096  # bytes of what process 0 tells the others
# How collectives and barriers fail where a process is lost, among other reasons.
_LOST = re.compile(r"\b(UNKNOWN|UNAVAILABLE|INTERNAL|ABORTED|DEADLINE_EXCEEDED): ")


def define_flags() -> None:
    """The flags of a command that several processes can run together."""
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer("processes", None, "How many processes the run has.")
    flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
    flags.DEFINE_integer(
        "heartbeat", 100, "Seconds after which a silent process counts as lost.", 2
    )


def join() -> contextlib.AbstractContextManager[None]:
    """Joins the run's other processes, by the flags or the environment.

    The run goes inside of what comes back, which ends the processes together: a lost
    one ends the others within the heartbeat, with a sentence and a status that is not
    0, and one that fails is lost to them. Alone, nothing at all is done. Raises
    ValueError for processes that cannot find each other.
    """
    given = flags.FLAGS
    place = _place(os.environ, given.coordinator, given.processes, given.process)
    if place is None:
        return contextlib.nullcontext()
    stderr_filter.translate()
    _initialize(place, given.heartbeat)
    return _together(given.heartbeat)


def is_host0() -> bool:
    """Whether this is the process that writes and speaks for all."""
    return jax.process_index() == 0


def print_on_host0(text: object, file: TextIO | None = None) -> None:
    """`print` of the first process."""
    if is_host0():
        print(text, file=file)


def broadcast_from_host0(ask: Callable[[], T]) -> T:
    """What `ask` returns on process 0, which is JSON; its ValueError is everyone's.

    For what depends on a disk that not all may see alike. All processes must call it.
    """
    if jax.process_count() == 1:
        return ask()
    said = {}
    if is_host0():
        try:
            said = {"value": ask()}
        except (ValueError, OSError) as error:
            said = {"error": str(error)[: _LONGEST // 8]}
    text = np.zeros(_LONGEST, np.uint8)
    told = np.frombuffer(json.dumps(said).encode(), np.uint8)
    text[: len(told)] = told
    text = np.asarray(multihost_utils.broadcast_one_to_all(text))
    said = json.loads(bytes(text).rstrip(b"\0"))
    if "error" in said:
        raise ValueError(said["error"])
    return said["value"]


def union(numbers: Iterable[int]) -> list[int]:
    """The numbers that any process gives, in order; all processes must call it."""
    own = sorted(numbers)
    if jax.process_count() == 1:
        return own
    most = int(np.max(multihost_utils.process_allgather(np.int32(len(own)))))
    padded = np.full(most, -1, np.int32)
    padded[: len(own)] = own
    every = multihost_utils.process_allgather(padded)
    return sorted({int(number) for number in np.ravel(every) if number >= 0})


def _place(
    environment: Mapping[str, str],
    coordinator: str | None,
    processes: int | None,
    process: int | None,
) -> dict[str, str | int] | None:
    """The arguments of jax.distributed.initialize; None for a process on its own.

    An empty dict leaves them to jax, which asks the cluster.
    """
    coordinator = coordinator or environment.get("JAX_COORDINATOR_ADDRESS")
    if processes is None and "JAX_NUM_PROCESSES" in environment:
        processes = int(environment["JAX_NUM_PROCESSES"])
    if process is None and "JAX_PROCESS_ID" in environment:
        process = int(environment["JAX_PROCESS_ID"])
    if processes == 1:
        return None
    if coordinator is None and processes is None and process is None:
        return {} if _in_cluster(environment) else None
    found = {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
    }
    if _in_cluster(environment):  # which knows what is left open
        return {name: value for name, value in found.items() if value is not None}
    names = {
        "coordinator_address": "--coordinator or JAX_COORDINATOR_ADDRESS",
        "num_processes": "--processes or JAX_NUM_PROCESSES",
        "process_id": "--process or JAX_PROCESS_ID",
    }
    missing = [names[name] for name, value in found.items() if value is None]
    if missing:
        raise ValueError(
            f"A run of several processes also needs {' and '.join(missing)}."
        )
    if not 0 <= process < processes:
        raise ValueError(
            f"There is no process {process} of {processes}; they count from 0."
        )
    if not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"The coordinator {coordinator!r} is no HOST:PORT.")
    return found


def _in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether jax will find other processes by itself; asked of no server."""
    slurm = "SLURM_STEP_NODELIST" in environment
    if slurm and int(environment.get("SLURM_NTASKS", "1")) > 1:
        return True
    if int(environment.get("OMPI_COMM_WORLD_SIZE", "1")) > 1:
        return True
    # GKE writes the hosts of a TPU slice, and its slices, into each pod.
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
    if "," in hosts or int(environment.get("MEGASCALE_NUM_SLICES", "1")) > 1:
        return True
    pods = "JOB_COMPLETION_INDEX" in environment
    if pods and importlib.util.find_spec("kubernetes") is not None:
        return True
    return _on_tpu_vm(environment)


def _on_tpu_vm(environment: Mapping[str, str]) -> bool:
    platforms = environment.get("JAX_PLATFORMS", "tpu")
    # jax sets it where there is no TPU chip.
    return "tpu" in platforms and "TPU_SKIP_MDS_QUERY" not in environment


def _initialize(place: Mapping[str, str | int], heartbeat: int) -> None:
    try:
        jax.distributed.initialize(
            **place,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except (ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"The processes of this run do not find each other: {reason} "
            "--coordinator, --processes and --process say where they are, and "
            "--processes=1 that this one is alone."
        )


@contextlib.contextmanager
def _together(heartbeat: int) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        _fail(error, heartbeat)
    # Who is done first waits, however long process 0 writes.
    multihost_utils.sync_global_devices("the run's end")
    jax.distributed.shutdown()


def _fail(error: BaseException, heartbeat: int) -> None:
    """Ends this process; it never comes back.

    Its status and what it says are those of a process on its own.
    """
    if _LOST.search("".join(traceback.format_exception(error))):
        # Within the heartbeat it is known, and said, whether a process was lost; if
        # this one still lives then, the error is its own.
        time.sleep(heartbeat + 5)
    status = error.code if isinstance(error, SystemExit) else 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
    if not isinstance(error, SystemExit):
        traceback.print_exception(error)
    sys.stdout.flush()
    sys.stderr.flush()
    status = 0 if status is None else status if isinstance(status, int) else 1
    # Where all end alike they leave together, each with its own status; jax would wait
    # longer for the others, and then abort.
    late = threading.Timer(min(heartbeat / 2, 10), os._exit, [status])
    late.daemon = True
    late.start()
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()
    os._exit(status)

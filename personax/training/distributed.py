"""A run of several processes: joining, broadcasting from process 0, ending together."""

import contextlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TextIO, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")

_MAX_BYTES = 4096  # of a value broadcast from process 0


def join(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    heartbeat: int = 100,
) -> contextlib.AbstractContextManager[None]:
    """Join the other processes of the run; a context manager for the run itself.

    `coordinator` is HOST:PORT of process 0. Arguments that are None come from the
    environment: JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID, or those
    of a cluster that jax knows. Does nothing for a single process.

    On leaving, the processes wait for each other. A process that fails or is lost ends
    the others with a non-zero status within `heartbeat` seconds.

    Raises ValueError for an incomplete specification, and for processes that cannot
    connect.
    """
    arguments = _arguments(os.environ, coordinator, processes, process)
    if arguments is None:
        return contextlib.nullcontext()
    try:
        jax.distributed.initialize(
            **arguments,
            heartbeat_timeout_seconds=heartbeat,
            shutdown_timeout_seconds=heartbeat,
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"The processes of this run cannot connect: {str(error).splitlines()[0]} "
            "Set --coordinator, --processes and --process, or --processes=1 for a "
            "single process."
        )
    return _leave_together()


@contextlib.contextmanager
def _leave_together() -> Iterator[None]:
    yield
    # A process that is done first waits, however long process 0 writes.
    multihost_utils.sync_global_devices("the end of the run")
    jax.distributed.shutdown()


def is_host0() -> bool:
    """Whether this is process 0, which writes files and prints."""
    return jax.process_index() == 0


def print_on_host0(text: object, file: TextIO | None = None) -> None:
    """`print` on process 0; a pipe that nobody reads any more does not end a run."""
    if is_host0():
        with contextlib.suppress(BrokenPipeError):
            print(text, file=file)


def broadcast_from_host0(compute: Callable[[], T]) -> T:
    """The result of `compute` on process 0, a JSON value, on every process.

    For values that depend on a disk that the processes may see differently. A
    ValueError or OSError of process 0 is raised as ValueError on every process. All
    processes must call it.
    """
    if jax.process_count() == 1:
        return compute()
    message: dict[str, Any] = {}
    if is_host0():
        try:
            message = {"value": compute()}
        except (ValueError, OSError) as error:
            message = {"error": str(error)[: _MAX_BYTES // 8]}
    encoded = np.frombuffer(json.dumps(message).encode(), np.uint8)
    buffer = np.zeros(_MAX_BYTES, np.uint8)
    buffer[: len(encoded)] = encoded
    buffer = np.asarray(multihost_utils.broadcast_one_to_all(buffer))
    message = json.loads(bytes(buffer).rstrip(b"\0"))
    if "error" in message:
        raise ValueError(message["error"])
    return message["value"]


def union(numbers: Iterable[int]) -> list[int]:
    """The sorted union of every process's numbers, >= 0; all processes must call it."""
    own = sorted(numbers)
    if jax.process_count() == 1:
        return own
    longest = int(np.max(multihost_utils.process_allgather(np.int32(len(own)))))
    padded = np.full(longest, -1, np.int32)
    padded[: len(own)] = own
    gathered = multihost_utils.process_allgather(padded)
    return sorted({int(number) for number in np.ravel(gathered) if number >= 0})


def _arguments(
    environment: Mapping[str, str],
    coordinator: str | None,
    processes: int | None,
    process: int | None,
) -> dict[str, Any] | None:
    """The arguments of jax.distributed.initialize; None for a single process.

    An empty dict leaves them to jax's own detection of the cluster.
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
    arguments = {
        "coordinator_address": coordinator,
        "num_processes": processes,
        "process_id": process,
    }
    if _in_cluster(environment):  # which provides the others
        return {name: value for name, value in arguments.items() if value is not None}
    if coordinator is None or processes is None or process is None:
        names = {
            "coordinator_address": "--coordinator or JAX_COORDINATOR_ADDRESS",
            "num_processes": "--processes or JAX_NUM_PROCESSES",
            "process_id": "--process or JAX_PROCESS_ID",
        }
        missing = [names[name] for name, value in arguments.items() if value is None]
        raise ValueError(
            f"A run of several processes also needs {' and '.join(missing)}."
        )
    if not 0 <= process < processes:
        raise ValueError(
            f"--process={process}: expected an index from 0 to {processes - 1}."
        )
    if not coordinator.rpartition(":")[2].isdigit():
        raise ValueError(f"--coordinator={coordinator!r}: expected HOST:PORT.")
    return arguments


def _in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether jax detects other processes, judged without asking a server."""

    def count(name: str) -> int:
        return int(environment.get(name, "1"))

    # GKE sets the hosts of a TPU slice, and the number of slices, in each pod.
    hosts = environment.get("TPU_WORKER_HOSTNAMES", "")
    pods = "JOB_COMPLETION_INDEX" in environment
    return (
        ("SLURM_STEP_NODELIST" in environment and count("SLURM_NTASKS") > 1)
        or count("OMPI_COMM_WORLD_SIZE") > 1
        or "," in hosts
        or count("MEGASCALE_NUM_SLICES") > 1
        or (pods and importlib.util.find_spec("kubernetes") is not None)
        # On a TPU VM; jax sets the variable where there is no TPU chip.
        or (
            "tpu" in environment.get("JAX_PLATFORMS", "tpu")
            and "TPU_SKIP_MDS_QUERY" not in environment
        )
    )

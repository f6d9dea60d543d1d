"""The flags of a command that several processes can run together."""

import contextlib

from absl import flags

from personax.training import distributed


def define_flags() -> None:
    """Define the flags that `join` reads."""
    flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0.")
    flags.DEFINE_integer("processes", None, "Number of processes of the run.", 1)
    flags.DEFINE_integer("process", None, "Index of this process, from 0.", 0)
    flags.DEFINE_integer(
        "heartbeat", 100, "Seconds after which a silent process counts as lost.", 2
    )


def join() -> contextlib.AbstractContextManager[None]:
    """`distributed.join` with the values of the flags."""
    values = flags.FLAGS
    return distributed.join(
        values.coordinator, values.processes, values.process, values.heartbeat
    )

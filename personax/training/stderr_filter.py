"""jax's last words where a process of a run is lost, turned into one sentence."""

import ctypes
import os
import re
import signal
import sys
import threading

# jax's C++ client ends the process when the coordination service reports an error. It
# takes no Python callback for that (jaxlib 0.10 dies of std::bad_cast in calling one).
_FATAL = "the JAX distributed service detected fatal errors"
# The beginning of a message in C++'s log: level, date, time, thread, file. What the
# parties to that service say of a lost process is no news beside the sentence.
_MESSAGE = re.compile(
    r"^(?=[IWEF]\d{4} [\d:.]+ +\d+ (?:coordination_|preemption_|client\.h))", re.M
)


def translate() -> None:
    """Reads what C++ code says on stderr from now on, and passes it on.

    What the coordination service says is left out, but where it ends the process: then
    `sentence` stands there, and the status is 1. What Python prints goes past all this.
    """
    terminal = os.dup(2)
    hears, says = os.pipe()
    sys.stderr.flush()
    sys.stderr = os.fdopen(
        os.dup(terminal), "w", buffering=1, errors="backslashreplace"
    )
    os.dup2(says, 2)
    os.close(says)
    # abort() comes right after the message, from another thread: as a handler, C's own
    # `sleep` gets the signal's number, 6, as its seconds, and needs no interpreter.
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))
    threading.Thread(target=_listen, args=(hears, terminal), daemon=True).start()


def _listen(hears: int, terminal: int) -> None:
    # A message is written in one piece, and so read in one.
    while heard := os.read(hears, 1 << 16):
        first, *messages = _MESSAGE.split(heard.decode(errors="replace"))
        os.write(terminal, first.encode())
        for message in messages:
            if _FATAL in message:
                os.write(terminal, f"\npersonax: {sentence(message)}\n".encode())
                os._exit(1)


def sentence(message: str) -> str:
    """What jax's message means to the user."""
    if "RegisterTask" in message:
        return (
            "The processes of this run did not find each other in time; all must be "
            "started, with the same coordinator and number of processes."
        )
    silent = re.search(r"stopped sending heartbeats\):\s*([\d, \n]*\d)", message)
    if silent:
        who = "Process " + " and ".join(re.findall(r"\d+", silent[1]))
    elif "Failed to send RPC to coordination service" in message:
        who = "Process 0"
    else:
        who = "Another process"
    return (
        f"{who} of this run has ended or cannot be reached, so this one stops; started "
        "again, the same command goes on from the last checkpoint."
    )

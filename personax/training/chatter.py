"""jax's last words where a process of a run is lost, turned into one sentence."""

import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator

# jax's C++ client ends the process when the coordination service reports an error. It
# takes no Python callback for that (jaxlib 0.10 dies of std::bad_cast in calling one).
_FATAL = "the JAX distributed service detected fatal errors"
# How abseil begins a line of its log: level, month and day, time.
_LOGGED = re.compile(r"[IWE]\d{4} \d\d:\d\d:\d\d\.\d+ ")


def translate() -> None:
    """Reads all that C++ code says on stderr from now on; passes on what is no log.

    Where jax ends the process, what stands there is `sentence`, and the status is 1.
    What Python itself prints goes past all this.
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
    lines = os.fdopen(hears, errors="replace")
    threading.Thread(target=_listen, args=(lines, terminal), daemon=True).start()


def _listen(lines: Iterable[str], terminal: int) -> None:
    lines = iter(lines)
    for line in lines:
        if _FATAL in line:
            said = f"personax: {sentence(line + _rest(lines))}\n"
            os.write(terminal, f"\n{said}".encode())
            os._exit(1)
        if not _LOGGED.match(line):
            os.write(terminal, line.encode())


def _rest(lines: Iterator[str]) -> str:
    """What follows of the message, up to the addresses of the stack."""
    found = []
    for line in lines:
        if line.startswith("***"):
            break
        found.append(line)
    return "".join(found)


def sentence(message: str) -> str:
    """What jax's message means to the user."""
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

"""Asking a run to stop: SIGTERM and Ctrl-C end it between two steps."""

import contextlib
import signal
from collections.abc import Callable, Iterator

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """A function that says whether one of the signals has come since.

    A second one is not held back any more. What handled them before does so again
    afterwards.
    """
    received = []

    def note(number, _):
        received.append(number)
        signal.signal(number, before[number])

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    for number in _SIGNALS:
        signal.signal(number, note)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

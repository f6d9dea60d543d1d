"""Asking a run to stop: SIGTERM and Ctrl-C end it between two steps."""

import contextlib
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

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


@contextlib.contextmanager
def stop_agreed() -> Iterator[Callable[[int], bool]]:
    """A function that says whether to stop before a step, the same in all processes.

    Each asks it before every step. A signal to any process reaches all, which stop at
    the step that the foremost comes to next; alone, it is `stop_requested`.
    """
    if jax.process_count() == 1:
        with stop_requested() as stopping:
            yield lambda step: stopping()
        return

    # jax handles SIGTERM itself since the processes were joined, and tells the others.
    def forward(number, _):
        signal.signal(number, before)
        signal.raise_signal(signal.SIGTERM)

    before = signal.signal(signal.SIGINT, forward)
    try:
        yield multihost_utils.reached_preemption_sync_point
    finally:
        signal.signal(signal.SIGINT, before)

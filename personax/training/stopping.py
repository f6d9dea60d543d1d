"""Stopping a run: SIGTERM and Ctrl-C end it between two steps."""

import contextlib
import itertools
import signal
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """A function that returns whether one of the signals has arrived.

    A second signal goes to the previous handler, which is restored on exit.
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
    """A function `step -> whether to stop before it`, the same on all processes.

    Each process must call it before every step. A signal to any process stops all of
    them at the next step of the foremost one, or at the second step if it came before
    the first. For a single process, `stop_requested`.
    """
    if jax.process_count() == 1:
        with stop_requested() as stopping:
            yield lambda step: stopping()
        return

    # jax handles SIGTERM once the processes are joined, and notifies the others.
    def forward(number, _):
        signal.signal(number, before)
        signal.raise_signal(signal.SIGTERM)

    # jax stops at the call whose number is one more than the largest so far, 0 before
    # any call: numbers that begin at the step of a resumed run would never be equal to
    # that of a signal that came before its first step.
    calls = itertools.count()
    before = signal.signal(signal.SIGINT, forward)
    try:
        yield lambda step: multihost_utils.reached_preemption_sync_point(next(calls))
    finally:
        signal.signal(signal.SIGINT, before)

"""Reading ahead with Grain, in threads or in worker processes.

Imported only where it is used: Grain takes seconds to import.
"""

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import grain


def prefetch(
    read: Callable[[int], Any], numbers: range, workers: int
) -> grain.IterDataset:
    """`read` of each number in order, by worker processes, or by two threads for 0."""
    items = grain.MapDataset.range(numbers.start, numbers.stop).map(read)
    if not workers:
        return _by_threads(items)
    _default_grain_flags()
    options = grain.MultiprocessingOptions(1, per_worker_buffer_size=2)
    init = functools.partial(_exit_with_parent, os.getpid())
    shares = [_by_threads(items[i::workers]) for i in range(workers)]
    return _RoundRobin(
        [
            by_thread(share.mp_prefetch(options, worker_init_fn=init), 1)
            for share in shares
        ]
    )


def by_thread(items: grain.IterDataset, count: int) -> grain.IterDataset:
    """The dataset read `count` elements ahead by a thread of this process."""
    return grain.experimental.ThreadPrefetchIterDataset(
        items, prefetch_buffer_size=count
    )


def _by_threads(items: grain.MapDataset) -> grain.IterDataset:
    return items.to_iter_dataset(grain.ReadOptions(2, prefetch_buffer_size=4))


def _default_grain_flags() -> None:
    """Let Grain read its own flags where the program has parsed none.

    Grain imports absl and fails at the first flag otherwise, as in a notebook.
    """
    flags = sys.modules["absl.flags"].FLAGS
    if not flags.is_parsed():
        for name in flags:
            if name.startswith("grain_"):
                flags[name].present = 1


class _RoundRobin(grain.IterDataset):
    """One element of each parent in turn.

    Grain's own interleaving starts a process after the previous one has answered, and
    each takes seconds to import its modules; here all start at once.
    """

    def __iter__(self) -> "_RoundRobinIterator":
        return _RoundRobinIterator([iter(parent) for parent in self._parents])


class _RoundRobinIterator(grain.DatasetIterator):
    def __init__(self, parents: list[grain.DatasetIterator]):
        super().__init__(parents)
        self._taken = 0

    def __next__(self) -> Any:
        self.start_prefetch()  # of all parents; a second call is a no-op
        element = next(self._parents[self._taken % len(self._parents)])
        self._taken += 1
        return element

    def get_state(self) -> dict[str, Any]:
        parents = [parent.get_state() for parent in self._parents]
        return {"taken": self._taken, "parents": parents}

    def set_state(self, state: dict[str, Any]) -> None:
        self._taken = state["taken"]
        for parent, own in zip(self._parents, state["parents"], strict=True):
            parent.set_state(own)


def _exit_with_parent(parent: int, worker: int, workers: int) -> None:
    """End this worker when its parent process is gone, even if that was killed.

    The worker ignores termination signals: sent to the whole process group, as
    schedulers do, they would end it before its parent has finished the current step.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

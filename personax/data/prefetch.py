"""A dataset of Grain's that is read ahead, by threads or by other processes.

Imported where it is needed alone: Grain takes seconds.
"""

import functools
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import grain
from absl import flags


def prefetch(
    look: Callable[[int], Any], numbers: range, workers: int
) -> grain.IterDataset:
    """`look` at each number in order, by that many processes, or by two threads."""
    looks = grain.MapDataset.range(numbers.start, numbers.stop).map(look)
    if not workers:
        return _by_threads(looks)
    if not flags.FLAGS.is_parsed():
        # Grain asks its own flags, and a notebook has parsed none.
        flags.FLAGS.mark_as_parsed()
    options = grain.MultiprocessingOptions(1, per_worker_buffer_size=2)
    live = functools.partial(_live_with, os.getpid())
    shares = [_by_threads(looks[i::workers]) for i in range(workers)]
    return _InTurn(
        [
            by_thread(each.mp_prefetch(options, worker_init_fn=live), 1)
            for each in shares
        ]
    )


def by_thread(found: grain.IterDataset, count: int) -> grain.IterDataset:
    """The dataset, so many elements ahead, by a thread of this process."""
    return grain.experimental.ThreadPrefetchIterDataset(
        found, prefetch_buffer_size=count
    )


def _by_threads(looks: grain.MapDataset) -> grain.IterDataset:
    return looks.to_iter_dataset(grain.ReadOptions(2, prefetch_buffer_size=4))


class _InTurn(grain.IterDataset):
    """One element of each in turn.

    Grain's own interleaving starts a process when the one before it has answered, and
    each needs seconds to import what it reads with; here all start at once.
    """

    def __iter__(self) -> "_InTurnIterator":
        return _InTurnIterator([iter(parent) for parent in self._parents])


class _InTurnIterator(grain.DatasetIterator):
    def __init__(self, parents: list[grain.DatasetIterator]):
        super().__init__(parents)
        self._taken = 0

    def __next__(self) -> Any:
        self.start_prefetch()  # of all; a second time it does nothing
        found = next(self._parents[self._taken % len(self._parents)])
        self._taken += 1
        return found

    def get_state(self) -> dict[str, Any]:
        parents = [parent.get_state() for parent in self._parents]
        return {"taken": self._taken, "parents": parents}

    def set_state(self, state: dict[str, Any]) -> None:
        self._taken = state["taken"]
        for parent, own in zip(self._parents, state["parents"], strict=True):
            parent.set_state(own)


def _live_with(parent: int, worker: int, workers: int) -> None:
    """Ends this worker when its parent is no more, which may have had no time to.

    A signal to end is the parent's business: sent to the whole group, as schedulers do,
    it would take from it the batches of the step that it still completes.
    """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()

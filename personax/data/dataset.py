"""The base class of training datasets, and iteration over their steps."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

# The examples of one step, before anything is encoded:
#   "caption", "plain": captions, and the same with the class word as the subject
#   "pixels": [v, height, width, 3], uint8 or float32 in [-1, 1], of the first v rows
#   "item": [b - v], indices into the dataset's `items`, of the other rows
#   "mean", "logvar": float16 posteriors, in place of pixels
#   "text", "ids": the dataset's own captions, encoded; see `has_text`
#   "mask", "weight", "hint", "repaint": see `losses.Batch`
#   "masked": [b, height, width, 3], the pictures for an inpainting base
#   "marked": [b], False where words of the concepts are not marked as theirs
#   "skipped": messages about pictures that could not be read
Rows = dict[str, Any]

_ENDLESS = 1 << 40  # steps


class Dataset:
    """The examples of every step of a run, and what of them can be encoded once.

    `step(i)` depends on the seed and on i alone: a run may resume at any step, with any
    number of processes and workers. Of several processes each may return all rows of a
    step, or those of its own devices.
    """

    rows_per_step: int  # of all processes
    first_row: int = 0  # the number of the first row that `step` returns
    steps: int | None = None  # None: endless
    workers: int | None = None  # that read ahead; 0: threads, None: read in place
    digest: str = ""  # compared when a checkpoint is restored, unless it is empty
    skipped: Sequence[str] = ()  # messages about pictures that were left out
    # Readers of the pictures in [-1, 1] that steps repeat unchanged.
    items: Sequence[Callable[[], Float[np.ndarray, "height width 3"]]] = ()
    captions: tuple[str, ...] = ()  # all that steps may have, where they are known
    caption_chunk: int = 0  # captions that are encoded together; 0: all
    has_text: bool = False  # whether rows hold encoded captions

    def step(self, step: int) -> Rows:
        raise NotImplementedError

    def preview(self, count: int) -> list[np.ndarray]:
        """Training pictures without augmentation: uint8, or float16 latent means."""
        raise NotImplementedError

    def fingerprint(self) -> Mapping[str, str]:
        """{name: digest} of the data, for the work directory's record."""
        raise NotImplementedError


class StepIterator(Iterator[Any]):
    """An iterator that knows its next step; call `close` to end its workers."""

    def __init__(self, iterator: Any, first: int):
        self.next_step = first
        self._iterator = iterator

    def __next__(self) -> Any:
        result = next(self._iterator)
        self.next_step += 1
        return result

    def close(self) -> None:
        self._iterator.close()
        del self._iterator


def iterate(
    dataset: Dataset,
    first: int,
    then: Callable[[Rows], Any] = lambda rows: rows,
) -> StepIterator:
    """`then(dataset.step(i))` for i = `first`, `first` + 1, …

    With `dataset.workers` that many processes read ahead, or threads for 0, and `then`
    runs in a thread of this process, two steps ahead.
    """
    if dataset.workers is None:
        steps = (then(dataset.step(step)) for step in itertools.count(first))
        return StepIterator(steps, first)
    # Imported here: Grain takes seconds, and few pictures do not need it.
    from personax.data.prefetch import by_thread, prefetch

    rows = prefetch(dataset.step, range(first, _ENDLESS), dataset.workers)
    return StepIterator(iter(by_thread(rows.map(then), 2)), first)

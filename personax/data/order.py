"""The order of examples: a function of the seed and the step alone."""

import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

_HELD_OUT = -1 & 0xFFFFFFFF  # replaces the epoch in the seed


def permuted(count: int, turn: int, seed: Sequence[int]) -> int:
    """Index of the `turn`-th of `count` examples, permuted anew in every epoch."""
    epoch, place = divmod(turn, count)
    return int(np.random.default_rng([*seed, epoch]).permutation(count)[place])


class Order:
    """The pictures of each step: a new permutation of all pictures in every epoch.

    With `buckets`, the bucket of each picture, a step has pictures of one bucket: an
    epoch has as many steps as its buckets need, the last of each padded with its first
    pictures. Without buckets a step may span two epochs. `held_out` pictures, the same
    ones for a seed, are in no step.
    """

    def __init__(
        self,
        count: int,
        rows: int,
        seed: int,
        *,
        held_out: int = 0,
        buckets: Int[np.ndarray, " n"] | None = None,
    ):
        if not 0 <= held_out < count:
            raise ValueError(
                f"Cannot hold out {held_out} of {count} pictures for validation."
            )
        self.rows, self.seed = rows, seed
        shuffled = self._rng(_HELD_OUT).permutation(count)
        self.held_out = np.sort(shuffled[count - held_out :])
        self._numbers = np.sort(shuffled[: count - held_out])
        self._buckets = buckets
        self._kept: dict[int, np.ndarray] = {}

    def step(self, step: int) -> Int[np.ndarray, " b"]:
        """The indices of the pictures in the step's rows."""
        if self._buckets is not None:
            epoch, place = divmod(step, self.steps_of_epoch)
            return self._epoch(epoch)[place]
        positions = np.arange(step * self.rows, (step + 1) * self.rows)
        epochs, places = np.divmod(positions, len(self._numbers))
        parts = [
            self._epoch(int(epoch))[places[epochs == epoch]]
            for epoch in np.unique(epochs)
        ]
        return np.concatenate(parts)

    @functools.cached_property
    def steps_of_epoch(self) -> int:
        """With buckets, the steps of an epoch."""
        assert self._buckets is not None
        buckets = self._buckets[self._numbers]
        counts = np.unique(buckets, return_counts=True)[1]
        return int(np.sum(-(-counts // self.rows)))

    def _epoch(self, epoch: int) -> Int[np.ndarray, "..."]:
        numbers = self._kept.get(epoch)
        if numbers is None:
            numbers = self._make_epoch(epoch)
            # Other threads may still read the previous epoch.
            previous = {n: x for n, x in self._kept.items() if n == epoch - 1}
            self._kept = {**previous, epoch: numbers}
        return numbers

    def _make_epoch(self, epoch: int) -> Int[np.ndarray, "..."]:
        rng = self._rng(epoch)
        if self._buckets is None:
            return self._numbers[rng.permutation(len(self._numbers))]
        batches = self._by_bucket(self._numbers, rng.permutation(len(self._numbers)))
        return batches[rng.permutation(len(batches))]

    def held_out_batches(self) -> list[Int[np.ndarray, " b"]]:
        """The held-out pictures in batches of a step's size, padded like those."""
        if not len(self.held_out):
            return []
        return list(self._by_bucket(self.held_out, np.arange(len(self.held_out))))

    def _by_bucket(self, numbers, order) -> Int[np.ndarray, "s b"]:
        numbers = numbers[order]
        buckets = np.zeros(len(numbers), int)
        if self._buckets is not None:
            buckets = self._buckets[numbers]
        batches = []
        for bucket in np.unique(buckets):
            own = numbers[buckets == bucket]
            batches.append(np.resize(own, (-(-len(own) // self.rows), self.rows)))
        return np.concatenate(batches)

    def _rng(self, epoch: int) -> np.random.Generator:
        # The third number separates this stream from others of the seed: numpy pads
        # seeds with zeros, so [seed, i] and [seed, i, 0] are the same.
        return np.random.default_rng([self.seed, epoch, 1])

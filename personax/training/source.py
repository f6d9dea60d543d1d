"""Where a run's batches come from: by the step's number, or one after the other."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from personax.methods.losses import Batch
from personax.training.few_shot import Feed, batch


class Source(NamedTuple):
    """`batch(step)` is what that step sees; steps are asked for in order.

    `state()` is what a checkpoint keeps so that `restore(state, step)` goes on before
    that step, JSON; what depends on the step's number alone has nothing to keep.
    """

    batch: Callable[[int], Batch]
    state: Callable[[], Mapping[str, Any]] = dict
    restore: Callable[[Mapping[str, Any], int], None] = lambda state, step: None
    close: Callable[[], None] = lambda: None


def few_shot(found: Feed) -> Source:
    """The batches of a few pictures, each by its step's number alone."""
    return Source(lambda step: batch(found, step))

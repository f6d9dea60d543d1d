"""The training loop: steps, hooks between them, and metrics fetched in batches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from personax.core.errors import RunFailedError
from personax.core.progress import Progress
from personax.core.typing import Metrics
from personax.methods.losses import Batch
from personax.training.state import TrainState


class DivergedError(RunFailedError):
    """A metric of a step is not finite; `step` and `metrics` are that step's."""

    def __init__(self, message: str, step: int, metrics: Mapping[str, Any]):
        super().__init__(message)
        self.step, self.metrics = step, metrics


class Hook(NamedTuple):
    """An action between steps, such as a validation loss, a preview or a checkpoint.

    `run(step, state)` is called after every step at which `due(step)`, where `step`
    counts the completed steps; a run from scratch also asks at step 0. The state's
    buffers are donated to the next step, so a hook must not keep them.
    """

    due: Callable[[int], bool]
    run: Callable[[int, TrainState], None]


@runtime_checkable
class Batches(Protocol):
    """Anything that gives the batch of a step, such as a `Source`."""

    def batch(self, step: int) -> Batch: ...


Records = Sequence[tuple[int, Mapping[str, Any]]]  # (completed steps, its metrics)


def fit(
    step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    state: TrainState,
    source: Batches,
    hooks: Sequence[Hook] = (),
    *,
    steps: int,
    log: Callable[[Records], None] = lambda records: None,
    log_every: int = 0,
    should_stop: Callable[[int], bool] = lambda step: False,
    progress: Progress | None = None,
) -> TrainState:
    """Train from the state's own step until `steps` are completed; the last state.

    `step` is `make_step`'s with the base bound, or any function of that form, such as
    one over an axis of several states.

    Metrics stay on the device until they are needed: `log` receives those of the steps
    since its last call, as numpy values, every `log_every` steps, before hooks run, and
    after the last step. `should_stop(i)` is called before step i and ends the loop
    early. `progress` is advanced by one for every step.

    Raises DivergedError where a metric is not finite, after logging the steps before.
    """
    start = int(np.max(np.asarray(state.step)))
    pending: list[tuple[int, Metrics]] = []
    for hook in hooks if start == 0 else ():
        if hook.due(0):
            hook.run(0, state)
    if progress is not None:
        progress.lap()  # excludes what the hooks took from the first rate
    for i in range(start, steps):
        if should_stop(i):
            break
        state, metrics = step(state, source.batch(i))
        done = i + 1
        pending.append((done, metrics))
        if progress is not None:
            progress.update()
        due = [hook for hook in hooks if hook.due(done)]
        if due or (log_every and done % log_every == 0):
            _flush(pending, log)
        for hook in due:
            hook.run(done, state)
    _flush(pending, log)
    return state


def _flush(pending: list[tuple[int, Metrics]], log: Callable[[Records], None]) -> None:
    """Pass the pending metrics to `log` and clear them; DivergedError, see `fit`."""
    finite: list[tuple[int, Mapping[str, Any]]] = []
    try:
        for step, metrics in jax.device_get(pending):
            if not all(np.isfinite(value).all() for value in metrics.values()):
                raise DivergedError(
                    f"Training diverged: the loss is {metrics['loss']} at step {step}.",
                    step,
                    metrics,
                )
            finite.append((step, metrics))
    finally:
        pending.clear()
        if finite:
            log(finite)

"""Checkpoints of a training state; the one place that uses orbax."""

import pathlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import orbax.checkpoint as ocp

from personax.training.state import TrainState

# "default" is orbax's name of a single item: older checkpoints hold the state alone.
_STATE, _SOURCE = "default", "source"


@runtime_checkable
class Resumable(Protocol):
    """What is saved beside a state as JSON, and restored with it."""

    def state(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any], step: int) -> None: ...


class Checkpoints:
    """The rolling checkpoints of one work directory; a context manager.

    Saving is asynchronous; leaving the context waits for it. Every process must call
    each method: each reads and writes the part of its own devices, on a shared disk. A
    state may be restored by another number of processes and onto another mesh.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 2):
        self.folder = folder
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(
            folder.absolute(), options=options, item_names=(_STATE, _SOURCE)
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def restore(self, state: TrainState, source: Resumable | None = None) -> TrainState:
        """The newest saved state, with the shardings of `state`, or else `state`.

        The source, if given, is restored to the same step.
        """
        step = self._manager.latest_step()
        if step is None:
            return state
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
        items = {_STATE: ocp.args.StandardRestore(target)}
        if (self.folder / str(step) / _SOURCE).exists():
            items[_SOURCE] = ocp.args.JsonRestore()
        restored = self._manager.restore(step, args=ocp.args.Composite(**items))
        if source is not None:
            source.restore(restored.get(_SOURCE) or {}, step)
        saved = restored[_STATE]
        return TrainState(**{**saved, "key": jax.random.wrap_key_data(saved["key"])})

    def newest(self) -> int | None:
        """The newest saved step, None without a checkpoint."""
        return self._manager.latest_step()

    def save(
        self, state: TrainState, step: int, source: Resumable | None = None
    ) -> None:
        """Save the state and the source's state, unless that step is saved already.

        The source's state is JSON, written by process 0: the order of the data is the
        same on all processes.
        """
        if self.newest() == step:
            return
        items = {_STATE: ocp.args.StandardSave(_plain(state))}
        if source is not None:
            items[_SOURCE] = ocp.args.JsonSave(dict(source.state()))
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)


def _plain(state: TrainState) -> dict[str, Any]:
    # Orbax's standard handler cannot store typed keys.
    plain = {
        "step": state.step,
        "theta": state.theta,
        "opt": state.opt,
        "key": jax.random.key_data(state.key),
    }
    return plain if state.ema is None else {**plain, "ema": state.ema}

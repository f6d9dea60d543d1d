"""Checkpoints of a training state by orbax, and nothing else of orbax anywhere."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from personax.training.state import TrainState


class Checkpoints:
    """The rolling checkpoints of one work directory; a context manager.

    Saving is asynchronous; leaving the context waits until all is on disk.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 2):
        self.folder = folder
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.wait_until_finished()
        self._manager.close()

    def restore(self, state: TrainState) -> TrainState:
        """The newest saved state, or `state` itself where there is none."""
        step = self._manager.latest_step()
        if step is None:
            return state
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
        saved = self._manager.restore(step, args=ocp.args.StandardRestore(target))
        return TrainState(**{**saved, "key": jax.random.wrap_key_data(saved["key"])})

    def newest(self) -> int | None:
        """The newest saved step."""
        return self._manager.latest_step()

    def save(self, state: TrainState, step: int) -> None:
        """Save now, unless that step is saved already."""
        if self.newest() == step:
            return
        self._manager.save(step, args=ocp.args.StandardSave(_plain(state)), force=True)


def _plain(state: TrainState) -> dict[str, Any]:
    # Orbax's standard handler stores arrays of numbers: a typed key goes as its data.
    plain = {
        "step": state.step,
        "theta": state.theta,
        "opt": state.opt,
        "key": jax.random.key_data(state.key),
    }
    return plain if state.ema is None else {**plain, "ema": state.ema}

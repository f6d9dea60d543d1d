"""Checkpoints of a training state by orbax, and nothing else of orbax anywhere."""

import pathlib
from typing import Any

import jax
import orbax.checkpoint as ocp

from personax.training.batches import Source
from personax.training.state import TrainState

# The state's is the name that orbax gives to what is alone in a checkpoint, as it was
# before there were sources.
_STATE, _SOURCE = "default", "source"


class Checkpoints:
    """The rolling checkpoints of one work directory; a context manager.

    Saving is asynchronous; leaving the context waits until all is on disk. Of several
    processes all must call each method: every one reads and writes what its own devices
    hold, on a disk that they share. A state may be restored by another number of them,
    onto another mesh: it lies as the state given does.
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

    def restore(self, state: TrainState, source: Source | None = None) -> TrainState:
        """The newest saved state, or `state` itself where there is none.

        A source is told to go on there.
        """
        step = self._manager.latest_step()
        if step is None:
            return state
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
        wanted = {_STATE: ocp.args.StandardRestore(target)}
        # Checkpoints from before there were sources have none.
        if (self.folder / str(step) / _SOURCE).exists():
            wanted[_SOURCE] = ocp.args.JsonRestore()
        found = self._manager.restore(step, args=ocp.args.Composite(**wanted))
        if source is not None:
            source.restore(found.get(_SOURCE) or {}, step)
        saved = found[_STATE]
        return TrainState(**{**saved, "key": jax.random.wrap_key_data(saved["key"])})

    def newest(self) -> int | None:
        """The newest saved step."""
        return self._manager.latest_step()

    def save(self, state: TrainState, step: int, source: Source | None = None) -> None:
        """Save now, unless that step is saved already.

        Beside the state lies what the source needs, as JSON: process 0's, since the
        order of a stream is one for all.
        """
        if self.newest() == step:
            return
        items = {_STATE: ocp.args.StandardSave(_plain(state))}
        if source is not None:
            items[_SOURCE] = ocp.args.JsonSave(dict(source.state()))
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)


def _plain(state: TrainState) -> dict[str, Any]:
    # Orbax's standard handler stores arrays of numbers: a typed key goes as its data.
    plain = {
        "step": state.step,
        "theta": state.theta,
        "opt": state.opt,
        "key": jax.random.key_data(state.key),
    }
    return plain if state.ema is None else {**plain, "ema": state.ema}

"""Checkpoints of a training state; the one place that uses orbax."""

import logging
import pathlib
import shutil
import zlib
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import orbax.checkpoint as ocp

from personax.core.errors import notice, one_line
from personax.core.files import read_json, write_json
from personax.core.outputs import is_disk_full
from personax.training.distributed import broadcast_from_host0, is_host0
from personax.training.state import TrainState

# "default" is orbax's name of a single item: older checkpoints hold the state alone.
_STATE, _SOURCE = "default", "source"
_CHECKSUMS = "checksums.json"  # {file: [bytes, CRC-32]}, in each checkpoint
_METADATA = "_CHECKPOINT_METADATA"  # orbax's own, JSON


@runtime_checkable
class Resumable(Protocol):
    """What is saved beside a state as JSON, and restored with it."""

    def state(self) -> Mapping[str, Any]: ...

    def restore(self, state: Mapping[str, Any], step: int) -> None: ...


class _Manager(ocp.CheckpointManager):
    """Orbax's manager, which does not ask for preemptions itself.

    The loop asks, see `stop_agreed`, and calls with other numbers would disturb it.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


class Checkpoints:
    """The rolling checkpoints of one work directory; a context manager.

    Saving is asynchronous; leaving the context waits for it. Every process must call
    each method: each reads and writes the part of its own devices, on a shared disk. A
    state may be restored by another number of processes and onto another mesh.

    A checkpoint holds the checksums of its files. One that differs from them is renamed
    N.damaged when the folder is opened, with a line on stderr, and the one before it is
    the newest. Raises ValueError where there are checkpoints and none is whole.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 2):
        self.folder = folder
        self._saving: int | None = None
        broadcast_from_host0(lambda: _set_damaged_aside(folder))
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            async_options=ocp.AsyncOptions(
                post_finalization_callback=self._write_checksums
            ),
        )
        try:
            self._manager = _Manager(
                folder.absolute(), options=options, item_names=(_STATE, _SOURCE)
            )
        except Exception as error:  # orbax reads its own files and raises any type
            if is_disk_full(error):
                raise
            raise ValueError(
                f"The checkpoints in {folder} cannot be opened: "
                f"{one_line(error)[:300]}. Restore them from a copy, or move {folder} "
                "away to train from the start."
            ) from error

    def __enter__(self) -> "Checkpoints":
        # What fails in a thread is logged there, and raised here as well.
        logging.getLogger("absl").addFilter(_is_not_orbaxs)
        return self

    def __exit__(self, *_) -> None:
        try:
            self._manager.wait_until_finished()
            self._manager.close()
        finally:
            logging.getLogger("absl").removeFilter(_is_not_orbaxs)

    def restore(self, state: TrainState, source: Resumable | None = None) -> TrainState:
        """The newest saved state, with the shardings of `state`, or else `state`.

        The source, if given, is restored to the same step. A checkpoint of a version
        without checksums that orbax cannot read is treated as a damaged one.
        """
        target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _plain(state))
        unread: dict[int, str] = {}
        restored, newest = None, 0
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                restored, newest = self._restore(step, target), step
                break
            except Exception as error:  # orbax and tensorstore raise any type
                unread[step] = one_line(error)[:300]
        if restored is None:
            if unread:
                raise ValueError(_none_whole(self.folder, unread))
            return state
        if unread:
            broadcast_from_host0(lambda: _set_aside(self.folder, unread, newest))
            self._manager.reload()
        if source is not None:
            source.restore(restored.get(_SOURCE) or {}, newest)
        saved = restored[_STATE]
        return TrainState(**{**saved, "key": jax.random.wrap_key_data(saved["key"])})

    def _restore(self, step: int, target: Any) -> Mapping[str, Any]:
        items = {_STATE: ocp.args.StandardRestore(target)}
        if (self.folder / str(step) / _SOURCE).exists():
            items[_SOURCE] = ocp.args.JsonRestore()
        return self._manager.restore(step, args=ocp.args.Composite(**items))

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
        self._manager.wait_until_finished()  # the callback names the step
        self._saving = step
        items = {_STATE: ocp.args.StandardSave(_plain(state))}
        if source is not None:
            items[_SOURCE] = ocp.args.JsonSave(dict(source.state()))
        self._manager.save(step, args=ocp.args.Composite(**items), force=True)

    def _write_checksums(self) -> None:
        """Called by orbax when all is written, before the checkpoint gets its name."""
        for place in self.folder.glob(f"{self._saving}.*-tmp*") if is_host0() else ():
            write_json(place / _CHECKSUMS, _checksums(place))


def _is_not_orbaxs(record: logging.LogRecord) -> bool:
    return "/orbax/" not in record.pathname


def _checksums(place: pathlib.Path) -> dict[str, list[int]]:
    # Of the items: orbax still changes its own files beside them.
    return {
        path.relative_to(place).as_posix(): [path.stat().st_size, _crc(path)]
        for path in sorted(place.glob("*/**/*"))
        if path.is_file()
    }


def _crc(path: pathlib.Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while part := file.read(1 << 24):
            crc = zlib.crc32(part, crc)
    return crc


def _damage(place: pathlib.Path) -> str:
    """What differs from a checkpoint's checksums, "" for one that is whole.

    Also for one without checksums, of an earlier version: orbax tells when it is read.
    Its own record has none, since it changes after them: it must be JSON.
    """
    if (place / _METADATA).exists():
        try:
            about = read_json(place / _METADATA)
        except ValueError as error:
            return one_line(error)
        if not isinstance(about, dict):
            return f"{_METADATA} is no record"
    try:
        read = read_json(place / _CHECKSUMS)
        expected = {name: (int(size), int(crc)) for name, (size, crc) in read.items()}
    except (ValueError, TypeError, AttributeError, FileNotFoundError):
        return ""
    for name, (size, crc) in expected.items():
        path = place / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size or _crc(path) != crc:
            return f"{name} has changed since it was written"
    return ""


def _set_damaged_aside(folder: pathlib.Path) -> None:
    """Rename the checkpoints that are newer than the newest whole one."""
    steps = [int(path.name) for path in folder.glob("*") if path.name.isdecimal()]
    damaged: dict[int, str] = {}
    for step in sorted(steps, reverse=True):
        damage = _damage(folder / str(step))
        if not damage:
            _set_aside(folder, damaged, step)
            return
        damaged[step] = damage
    if damaged:
        raise ValueError(_none_whole(folder, damaged))


def _set_aside(folder: pathlib.Path, damaged: Mapping[int, str], newest: int) -> None:
    for step, damage in damaged.items():
        aside = folder / f"{step}.damaged"
        shutil.rmtree(aside, ignore_errors=True)  # an earlier one of the same step
        (folder / str(step)).rename(aside)
        notice(
            f"The checkpoint {folder / str(step)} is damaged ({damage}); it is now "
            f"called {aside.name}, and the run goes on from step {newest}."
        )


def _none_whole(folder: pathlib.Path, damaged: Mapping[int, str]) -> str:
    newest = max(damaged)
    return (
        f"No checkpoint in {folder} is whole; of {newest}: {damaged[newest]}. Restore "
        f"one from a copy, or move {folder} away to train from the start."
    )


def _plain(state: TrainState) -> dict[str, Any]:
    # Orbax's standard handler cannot store typed keys.
    plain = {
        "step": state.step,
        "theta": state.theta,
        "opt": state.opt,
        "key": jax.random.key_data(state.key),
    }
    return plain if state.ema is None else {**plain, "ema": state.ema}

"""The logs of a run: metrics.jsonl and TensorBoard's event files."""

import json
import os
import pathlib
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from personax.core.errors import notice
from personax.core.files import atomic_write
from personax.core.images import Pixels


class Writer:
    """The logs of one work directory from step `start`; a context manager.

    Lines of later steps, which an earlier process logged after its last checkpoint, are
    removed; from step 0, every line. So are lines that are no records, with a line on
    stderr, apart from an incomplete last one, which a killed process leaves. With
    `writes` False, on processes other than 0, every method is a no-op.
    """

    def __init__(self, workdir: pathlib.Path, start: int, *, writes: bool = True):
        path = workdir / "metrics.jsonl" if writes else pathlib.Path(os.devnull)
        first = start + 1 if start else 0  # 0: logged before the first step
        _keep_before(path, first)
        self._lines = path.open("a")
        self._events = SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first, write_to_disk=writes
        )

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_) -> None:
        self._lines.close()
        self._events.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line of metrics.jsonl, and a point of each value's curve."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def curve(self, step: int, name: str, value: float) -> None:
        """Write a point to TensorBoard alone; for values that differ between reruns."""
        self._events.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: Pixels) -> None:
        self._events.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Flush both logs to disk."""
        self._lines.flush()
        self._events.flush()


def _keep_before(path: pathlib.Path, step: int) -> None:
    if not path.is_file():
        return
    *lines, last = path.read_bytes().split(b"\n")
    lines += [last] if _step_of(last) is not None else []
    steps = [_step_of(line) for line in lines]
    damaged = steps.count(None)
    if damaged:
        notice(f"{path}: {damaged} lines that are no records were removed.")
    pairs = zip(lines, steps, strict=True)
    kept = [line + b"\n" for line, at in pairs if at is not None and at < step]
    with atomic_write(path) as temporary:
        temporary.write_bytes(b"".join(kept))


def _step_of(line: bytes) -> int | None:
    """The step of a line of metrics.jsonl, None where it is no record."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return step if isinstance(step, int) else None

"""What a run writes while it trains: metrics.jsonl and TensorBoard's event files."""

import json
import os
import pathlib
from collections.abc import Mapping

from tensorboardX import SummaryWriter

from personax.core.images import Pixels
from personax.training.workdir import write


class Writer:
    """The logs of one work directory, from step `start` on; a context manager.

    What an earlier process logged of later steps is taken back, since those steps are
    about to be taken again; from step 0, everything. One that does not write, as of
    every process but the first, takes all and keeps nothing.
    """

    def __init__(self, workdir: pathlib.Path, start: int, *, writes: bool = True):
        path = workdir / "metrics.jsonl" if writes else pathlib.Path(os.devnull)
        first = start + 1 if start else 0  # what a run says before its first step
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
        """One line of JSON, and a point of every curve."""
        self._lines.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def curve(self, step: int, name: str, value: float) -> None:
        """A point in TensorBoard alone: of what no two runs have in common."""
        self._events.add_scalar(name, value, step)

    def image(self, step: int, name: str, pixels: Pixels) -> None:
        self._events.add_image(name, pixels, step, dataformats="HWC")

    def flush(self) -> None:
        """Everything said so far is on disk afterwards."""
        self._lines.flush()
        self._events.flush()


def read_metrics(workdir: pathlib.Path) -> list[dict]:
    """The lines of a work directory's metrics.jsonl, in order."""
    return [
        json.loads(line)
        for line in (workdir / "metrics.jsonl").read_text().splitlines()
    ]


def _keep_before(path: pathlib.Path, step: int) -> None:
    if not path.is_file():
        return
    kept: list[str] = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] < step:
                kept.append(f"{line}\n")
        except (json.JSONDecodeError, KeyError):  # a line that a kill cut off
            break
    write(path, "".join(kept))

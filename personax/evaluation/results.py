"""What an evaluation found of one method on one subject, and the journal of such cells.

A line of cells.jsonl is a cell; a command that was stopped goes on after the last.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from personax.training.workdir import write


class Measured(NamedTuple):
    """A metric's value over `count` pictures or pairs, and its standard error.

    The error is None where it is not known.
    """

    value: float
    error: float | None
    count: int


class Shot(NamedTuple):
    """How one picture was asked for: it can be drawn again alone.

    The prompt speaks of the class, so that what methods draw of it can be compared.
    """

    prompt: str
    seed: int
    index: int  # picture `index` of that seed


class Cell(NamedTuple):
    """One method on one subject, or on several at once.

    `sheet` is a PNG beside the journal whose tiles are the shots, row by row, each
    `tile` (width, height) pixels and `columns` to a row.
    """

    method: str
    subject: str  # "dog", of several "dog+cat"
    kind: str  # live, object, pair
    fingerprint: str  # of all that it depends on
    numbers: int  # trained
    size: int  # bytes on disk
    seconds: float  # of training
    metrics: Mapping[str, Measured]
    sheet: str = ""
    tile: tuple[int, int] = (0, 0)
    columns: int = 1
    shots: tuple[Shot, ...] = ()
    words: tuple[str, ...] = ()  # what the method's own prompts say for the class words

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.subject


class Column(NamedTuple):
    """How a metric is shown."""

    key: str  # in a cell's `metrics`, or numbers, size, seconds
    title: str
    better: str = "higher"  # lower, or "" where neither is
    digits: int = 3


def read(path: pathlib.Path) -> dict[tuple[str, str], Cell]:
    """{(method, subject): the last cell of that name} of a journal, {} without one.

    What a kill has left of an unfinished line is passed over.
    """
    if not path.is_file():
        return {}
    whole, _, _ = path.read_text().rpartition("\n")
    cells = [_cell(json.loads(line)) for line in whole.splitlines()]
    return {cell.name: cell for cell in cells}


def mend(path: pathlib.Path) -> None:
    """Takes an unfinished last line away, so that another can be added."""
    if path.is_file():
        whole, newline, rest = path.read_text().rpartition("\n")
        if rest:
            write(path, whole + newline)


def append(path: pathlib.Path, cell: Cell) -> None:
    """Adds a line to what `mend` has seen; the cell's files must be there."""
    record = cell._asdict()
    record["metrics"] = {key: list(found) for key, found in cell.metrics.items()}
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def _cell(record: dict) -> Cell:
    metrics = {key: Measured(*found) for key, found in record["metrics"].items()}
    shots = tuple(Shot(*each) for each in record["shots"])
    tuples = {name: tuple(record[name]) for name in ("tile", "words")}
    return Cell(**record | {"metrics": metrics, "shots": shots, **tuples})

"""Evaluation results and their journal, cells.jsonl."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from personax.core.files import append_journal
from personax.core.records import expected, read_records

JOURNAL = "cells.jsonl"  # a line per method and subject
# Costs are columns beside the metrics: {column key: attribute of `EvalResult`}.
COSTS = {"numbers": "num_params", "size": "size", "seconds": "seconds"}
# The journal's keys where they are not the attribute's name.
_KEYS = {"num_params": "numbers", "samples": "shots"}


class Measurement(NamedTuple):
    """A metric over `count` pictures or pairs, and its standard error if known."""

    value: float
    error: float | None
    count: int


class Sample(NamedTuple):
    """Identifies one generated picture, so that it can be drawn again.

    The prompt has the class word in place of the concept, so that pictures of different
    methods can be matched.
    """

    prompt: str
    seed: int
    index: int  # of the seed's pictures


class EvalResult(NamedTuple):
    """The result of one method on one subject, or on several subjects at once.

    `sheet` is a PNG relative to the work directory. Its tiles are the samples in row
    order, `columns` per row, each `tile` = (width, height) pixels.
    """

    method: str
    subject: str  # "dog", or "dog+cat" for several
    kind: str  # live, object, pair
    fingerprint: str  # digest of everything that the result depends on
    num_params: int  # trained parameters
    size: int  # of theta.safetensors, in bytes
    seconds: float  # training time
    metrics: Mapping[str, Measurement]
    sheet: str = ""
    tile: tuple[int, int] = (0, 0)
    columns: int = 1
    samples: tuple[Sample, ...] = ()
    words: tuple[str, ...] = ()  # of the subjects in the method's own prompts

    @property
    def name(self) -> tuple[str, str]:
        return self.method, self.subject


class Column(NamedTuple):
    """A column of the tables."""

    key: str  # of `EvalResult.metrics` or `COSTS`
    title: str
    better: str = "higher"  # or "lower", or "" if neither is better
    digits: int = 3


def read(path: pathlib.Path) -> dict[tuple[str, str], EvalResult]:
    """{(method, subject): its last result} of a journal, {} if there is no file.

    Raises ValueError for a line that is not a result.
    """
    results = read_records(path, _from_record, again="its result is computed again")
    return {result.name: result for result in results}


def append(path: pathlib.Path, result: EvalResult) -> None:
    """Append a result to a journal; its sheet must already be written."""
    record = {_KEYS.get(key, key): value for key, value in result._asdict().items()}
    append_journal(path, record)


def _from_record(record: dict[str, Any]) -> EvalResult:
    """Raises KeyError, TypeError or ValueError for a record of another form."""
    fields = {key: record[_KEYS.get(key, key)] for key in EvalResult._fields}
    for key in ("method", "subject", "kind", "fingerprint", "sheet"):
        fields[key] = expected(fields[key], str)
    for key in ("num_params", "size", "columns"):
        fields[key] = expected(fields[key], int)
    fields["seconds"] = float(expected(fields["seconds"], int | float))
    width, height = (expected(side, int) for side in record["tile"])
    metrics = {k: _measurement(*v) for k, v in record["metrics"].items()}
    return EvalResult(
        **fields
        | {
            "metrics": {k: v for k, v in metrics.items() if math.isfinite(v.value)},
            "samples": tuple(_sample(*each) for each in record["shots"]),
            "tile": (width, height),
            "words": tuple(expected(word, str) for word in record["words"]),
        }
    )


def _measurement(value: Any, error: Any, count: Any) -> Measurement:
    value, count = float(expected(value, int | float)), expected(count, int)
    if error is None or not math.isfinite(expected(error, int | float)):
        return Measurement(value, None, count)
    return Measurement(value, float(error), count)


def _sample(prompt: Any, seed: Any, index: Any) -> Sample:
    return Sample(expected(prompt, str), expected(seed, int), expected(index, int))

"""One row per method: the mean of each metric over the subjects, and how it is shown.

report_means.js computes the same of the subjects that its filters leave.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from personax.evaluation.results import Cell, Column

GROUPS = {"single": "One subject", "pair": "Several subjects at once"}


class Mean(NamedTuple):
    """The mean over some subjects.

    The error is sqrt(sum e_i^2) / n of the subjects' own errors e_i, which is how far
    other pictures of the same n subjects would move the mean; other subjects are not
    in it. None where one has none, as the size of a file.
    """

    value: float
    error: float | None
    subjects: int
    whole: bool  # over all subjects that the group's methods were measured on
    rank: int = 0  # 1 is the best of the column, 2 the second, 0 neither


class Row(NamedTuple):
    """One method on single subjects, or on several at once."""

    method: str
    group: str  # a key of GROUPS
    subjects: int
    means: Mapping[str, Mean]  # by a column's key; what was never measured is missing
    apart: bool = False  # shown, and not ranked


def means(
    cells: Iterable[Cell], columns: Sequence[Column], *, apart: Collection[str] = ()
) -> list[Row]:
    """Rows in the methods' first order, those of single subjects first.

    Means over fewer subjects than others have no rank: they answer another question.
    Those that are shown as the same number share one. There are no ranks where neither
    direction is better, where all are shown as the same number, and for methods that
    stand `apart`, such as the base and the renders: a floor and a ceiling.
    """
    found, cells = [], list(cells)
    for group in GROUPS:
        own: dict[str, list[Cell]] = {}
        for cell in cells:
            if group_of(cell) == group:
                own.setdefault(cell.method, []).append(cell)
        by_key = {each.key: _column(each, own, apart) for each in columns}
        found += [
            Row(
                method,
                group,
                len(each),
                {key: mean[method] for key, mean in by_key.items() if method in mean},
                method in apart,
            )
            for method, each in own.items()
        ]
    return found


def group_of(cell: Cell) -> str:
    """Which of GROUPS a cell is compared in."""
    return "pair" if cell.kind == "pair" else "single"


def measured(cell: Cell, key: str) -> tuple[float, float | None] | None:
    """(value, its error or None) of a column's key, or None where there is no value."""
    if key in ("numbers", "size", "seconds"):
        return float(getattr(cell, key)), None
    found = cell.metrics.get(key)
    if found is None or not math.isfinite(found.value):
        return None
    error = None if found.error is None else float(found.error)
    return float(found.value), error


def shown(column: Column, value: int | float) -> str:
    """`value` with the column's digits, half away from zero; a size in kB or MB.

    >>> shown(Column("clip_t", "CLIP-T"), 0.8125), shown(Column("size", "Size"), 57123)
    ('0.813', '57.1 kB')
    """
    if column.key != "size":
        return _fixed(value, column.digits)
    scale, unit = next((each for each in _UNITS if abs(value) >= each[0]), (1.0, "B"))
    scaled = value / scale
    digits = 0 if unit == "B" else 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{_fixed(scaled, digits)} {unit}"


def arrow(column: Column) -> str:
    """In the direction of better; "" where neither is."""
    return {"higher": "↑", "lower": "↓"}.get(column.better, "")


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _fixed(value: int | float, digits: int) -> str:
    # As JavaScript's toFixed rounds; format() would take 0.8125 to 0.812.
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded:,f}"


def _column(
    column: Column, own: Mapping[str, Sequence[Cell]], apart: Collection[str]
) -> dict[str, Mean]:
    """{method: its mean}; `own` are the cells of each method of one group."""
    values = {
        method: {
            cell.subject: value
            for cell in cells
            if (value := measured(cell, column.key)) is not None
        }
        for method, cells in own.items()
    }
    compared = [each.keys() for method, each in values.items() if method not in apart]
    everyone = set().union(*compared)
    averaged = {
        method: _mean(list(each.values()), whole=each.keys() >= everyone)
        for method, each in values.items()
        if each
    }
    ranks = _ranks(
        column,
        {
            method: mean.value
            for method, mean in averaged.items()
            if mean.whole and method not in apart
        },
    )
    return {
        method: mean._replace(rank=ranks.get(method, 0))
        for method, mean in averaged.items()
    }


def _mean(values: Sequence[tuple[float, float | None]], *, whole: bool) -> Mean:
    n, errors = len(values), [error for _, error in values if error is not None]
    error = math.sqrt(sum(e * e for e in errors)) / n if len(errors) == n else None
    return Mean(sum(value for value, _ in values) / n, error, n, whole)


def _ranks(column: Column, values: Mapping[str, float]) -> dict[str, int]:
    """{method: 1 or 2}; what is shown as the same number has the same rank."""
    if not column.better:
        return {}
    falls = column.better == "higher"
    texts = [shown(column, each) for each in sorted(values.values(), reverse=falls)]
    places = {text: place for place, text in enumerate(dict.fromkeys(texts), 1)}
    if len(places) < 2:
        return {}
    found = {method: places[shown(column, each)] for method, each in values.items()}
    return {method: place for method, place in found.items() if place <= 2}

"""Means of the metrics over subjects, one row per method, and their formatting."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from personax.evaluation.results import COSTS, Column, EvalResult, Measurement

GROUPS = {"single": "One subject", "pair": "Several subjects at once"}


class Mean(NamedTuple):
    """A mean over subjects.

    Its error is sqrt(sum e_i^2) / n for the subjects' own errors e_i: the spread over
    other pictures of the same n subjects, not over other subjects. None if a subject
    has no error, as for the size of a file.
    """

    value: float
    error: float | None
    subjects: int
    complete: bool  # over all subjects that the group's methods were measured on
    rank: int = 0  # 1 for the best of the column, 2 for the second, else 0


class Row(NamedTuple):
    """One method on single subjects, or on several at once."""

    method: str
    group: str  # a key of GROUPS
    subjects: int
    means: Mapping[str, Mean]  # {column key: mean}, without what was not measured
    unranked: bool = False


def means(
    results: Iterable[EvalResult],
    columns: Sequence[Column],
    *,
    unranked: Collection[str] = (),
) -> list[Row]:
    """Rows in the methods' order, single subjects first.

    A mean over fewer subjects than others has no rank, since it is not comparable.
    Equal numbers, as formatted, share a rank. There are no ranks in a column where
    neither direction is better or where all numbers are equal, nor for `unranked`
    methods, such as the base and the renders.
    """
    results, rows = list(results), []
    for group in GROUPS:
        by_method: dict[str, list[EvalResult]] = {}
        for result in results:
            if (result.kind == "pair") == (group == "pair"):
                by_method.setdefault(result.method, []).append(result)
        by_key = {each.key: _column(each, by_method, unranked) for each in columns}
        rows += [
            Row(
                method,
                group,
                len(own),
                {key: mean[method] for key, mean in by_key.items() if method in mean},
                method in unranked,
            )
            for method, own in by_method.items()
        ]
    return rows


def formatted(column: Column, value: int | float) -> str:
    """`value` with the column's digits, rounding half up; a size in kB or MB.

    >>> formatted(Column("clip_t", "CLIP-T"), 0.8125)
    '0.813'
    >>> formatted(Column("size", "Size"), 57123)
    '57.1 kB'
    """
    if column.key != "size":
        return _fixed(value, column.digits)
    scale, unit = next((each for each in _UNITS if abs(value) >= each[0]), (1.0, "B"))
    scaled = value / scale
    digits = 0 if unit == "B" else 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{_fixed(scaled, digits)} {unit}"


def titled(column: Column) -> str:
    """The title with an arrow in the better direction."""
    return f"{column.title} {arrow(column)}".rstrip()


def arrow(column: Column) -> str:
    """An arrow in the better direction, "" if neither is better."""
    return {"higher": "↑", "lower": "↓"}.get(column.better, "")


def notes(rows: Sequence[Row]) -> list[str]:
    """Sentences that explain errors and marks, as far as the rows have them."""
    values = [mean for row in rows for mean in row.means.values()]
    sentences = []
    if any(mean.error is not None for mean in values):
        sentences.append(
            "Mean over subjects ± standard error over pictures: "
            "sqrt(sum e²) / n of the n subjects' errors e."
        )
    if not all(mean.complete for mean in values):
        sentences.append("† is over fewer subjects and not ranked.")
    if any(row.unranked for row in rows):
        sentences.append("Rows in italics are references and not ranked.")
    return sentences


_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def _fixed(value: int | float, digits: int) -> str:
    # format() rounds half to even: 0.8125 to 0.812.
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{rounded:,f}"


def _column(
    column: Column,
    by_method: Mapping[str, Sequence[EvalResult]],
    unranked: Collection[str],
) -> dict[str, Mean]:
    """{method: its mean} of one group, without methods that were not measured."""
    measured = {
        method: {
            result.subject: measurement
            for result in results
            if (measurement := _measurement(result, column.key)) is not None
        }
        for method, results in by_method.items()
    }
    compared = [own for method, own in measured.items() if method not in unranked]
    subjects = set().union(*compared)
    means = {
        method: _mean(list(own.values()), complete=own.keys() >= subjects)
        for method, own in measured.items()
        if own
    }
    ranked = {
        method: mean.value
        for method, mean in means.items()
        if mean.complete and method not in unranked
    }
    ranks = _ranks(column, ranked)
    return {m: mean._replace(rank=ranks.get(m, 0)) for m, mean in means.items()}


def _measurement(result: EvalResult, key: str) -> Measurement | None:
    """A column's measurement, None if there is none or it is not finite."""
    if key in COSTS:
        return Measurement(getattr(result, COSTS[key]), None, 1)
    own = result.metrics.get(key)
    return own if own and math.isfinite(own.value) else None


def _mean(measured: Sequence[Measurement], *, complete: bool) -> Mean:
    n, errors = len(measured), [x.error for x in measured if x.error is not None]
    error = math.sqrt(sum(e * e for e in errors)) / n if len(errors) == n else None
    return Mean(sum(x.value for x in measured) / n, error, n, complete)


def _ranks(column: Column, values: Mapping[str, float]) -> dict[str, int]:
    """{method: 1 or 2}; numbers that are formatted equally share a rank."""
    best = sorted(values.values(), reverse=column.better == "higher")
    texts = dict.fromkeys(formatted(column, value) for value in best)
    if not column.better or len(texts) < 2:
        return {}
    first, second, *_ = texts
    ranks = {first: 1, second: 2}
    texts = {method: formatted(column, value) for method, value in values.items()}
    return {method: ranks[text] for method, text in texts.items() if text in ranks}

"""Means of points over subjects, as a figure shows them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.claims.claim import Point


class Mean(NamedTuple):
    """A mean and its standard error, 0 where it is not known."""

    value: float
    error: float


def mean(points: Sequence[Point], column: str) -> Mean:
    """Over points, one for each subject: the error is that of the subjects' mean.

    Of one subject it is that of its own prompts. NaN without a point that has it.
    """
    own = [point for point in points if point.get(column) is not None]
    if not own:
        return Mean(float("nan"), 0.0)
    values = [point[column] for point in own]
    if len(values) == 1:
        return Mean(values[0], own[0].get(f"{column}_error") or 0.0)
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return Mean(float(np.mean(values)), float(error))


def where(points: Sequence[Point], **wanted: Any) -> list[Point]:
    """The points with these values."""
    return [p for p in points if all(p.get(k) == v for k, v in wanted.items())]


def values(points: Sequence[Point], column: str) -> list[Any]:
    """Each value of a column once, in the points' order."""
    return list(dict.fromkeys(p[column] for p in points if p.get(column) is not None))


def curve(axis: Any, points: Sequence[Point], x: str, y: str, **style: Any) -> None:
    """A line of means over what has the same `x`, with their errors."""
    places = values(points, x)
    found = [mean(where(points, **{x: place}), y) for place in places]
    axis.errorbar(
        places,
        [each.value for each in found],
        [each.error for each in found],
        marker="o",
        capsize=3,
        **style,
    )


def each_subject(
    axis: Any, points: Sequence[Point], x: str, y: str, **style: Any
) -> None:
    """A thin line for each subject: they start far apart, and may move together."""
    for subject in values(points, "subject"):
        own = where(points, subject=subject)
        ends = ([point[name] for point in own] for name in (x, y))
        axis.plot(*ends, linewidth=0.7, alpha=0.6, **style)


def bars(
    axis: Any, points: Sequence[Point], x: str, y: str, by: str, names: Any
) -> None:
    """Bars of means for each value of `x`, side by side for each value of `by`.

    The subjects' own values are dots; `names` are {value of `by`: its label}.
    """
    places, kinds = values(points, x), values(points, by)
    width = 0.8 / len(kinds)
    for k, kind in enumerate(kinds):
        for i, place in enumerate(places):
            own = where(points, **{x: place, by: kind})
            at, found = i + (k - (len(kinds) - 1) / 2) * width, mean(own, y)
            label = names.get(kind, kind) if i == 0 else None
            axis.bar(
                at,
                found.value,
                0.9 * width,
                yerr=found.error,
                capsize=3,
                color=f"C{k}",
                alpha=0.7,
                label=label,
            )
            dots = [p[y] for p in own if p.get(y) is not None]
            axis.plot([at] * len(dots), dots, "k.", markersize=4)
    axis.set_xticks(range(len(places)), places)

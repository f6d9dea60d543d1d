"""Figures of points: means over subjects, curves and bars."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from experiments.claims.claim import Point


class Mean(NamedTuple):
    """A mean and its standard error, 0 where it is unknown."""

    value: float
    error: float


def mean(points: Sequence[Point], column: str) -> Mean:
    """The mean over points, one per subject, and the standard error of that mean.

    With a single point, the error is that point's own. NaN without any value.
    """
    own = [point for point in points if point.get(column) is not None]
    if not own:
        return Mean(float("nan"), 0.0)
    numbers = [point[column] for point in own]
    if len(numbers) == 1:
        return Mean(numbers[0], own[0].get(f"{column}_error") or 0.0)
    error = np.std(numbers, ddof=1) / np.sqrt(len(numbers))
    return Mean(float(np.mean(numbers)), float(error))


def where(points: Sequence[Point], **values: Any) -> list[Point]:
    """The points with these values."""
    return [p for p in points if all(p.get(k) == v for k, v in values.items())]


def distinct(points: Sequence[Point], column: str) -> list[Any]:
    """The distinct values of a column, in order of appearance."""
    return list(dict.fromkeys(p[column] for p in points if p.get(column) is not None))


@contextlib.contextmanager
def panels(
    path: pathlib.Path,
    rows: int,
    columns: int,
    size: tuple[float, float],
    dpi: int = 150,
    **options: Any,
) -> Iterator[np.ndarray]:
    """The axes of a new figure, an array of (rows, columns); saved at the end."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    yield figure.subplots(rows, columns, squeeze=False, **options)
    figure.savefig(path, dpi=dpi)


def legend(axes: np.ndarray, columns: int = 4) -> None:
    """One legend above the figure, with each label of its axes once."""
    handles: dict[str, Any] = {}
    for axis in axes.flat:
        handles |= dict(zip(*reversed(axis.get_legend_handles_labels()), strict=True))
    figure = axes.flat[0].figure
    place = "outside upper center"
    figure.legend(handles.values(), handles.keys(), loc=place, ncols=columns)


def curve(axis: Any, points: Sequence[Point], x: str, y: str, **style: Any) -> None:
    """A line of means over the points of each `x`, with error bars."""
    places = distinct(points, x)
    means = [mean(where(points, **{x: place}), y) for place in places]
    values, errors = zip(*means, strict=True)
    axis.errorbar(places, values, errors, marker="o", capsize=3, **style)


def subject_curves(
    axis: Any, points: Sequence[Point], x: str, y: str, **style: Any
) -> None:
    """A thin line per subject, beside a `curve` of their means."""
    for subject in distinct(points, "subject"):
        own = where(points, subject=subject)
        values = ([point[name] for point in own] for name in (x, y))
        axis.plot(*values, linewidth=0.7, alpha=0.6, **style)


def bars(
    axis: Any,
    points: Sequence[Point],
    x: str,
    y: str,
    by: str,
    names: Mapping[Any, str],
) -> None:
    """Bars of means for each value of `x`, side by side for each value of `by`.

    Dots are the single points; `names` maps values of `by` to labels.
    """
    places, kinds = distinct(points, x), distinct(points, by)
    width = 0.8 / len(kinds)
    for k, kind in enumerate(kinds):
        for i, place in enumerate(places):
            own = where(points, **{x: place, by: kind})
            at, height = i + (k - (len(kinds) - 1) / 2) * width, mean(own, y)
            axis.bar(
                at,
                height.value,
                0.9 * width,
                yerr=height.error,
                capsize=3,
                color=f"C{k}",
                alpha=0.7,
                label=names.get(kind, kind) if i == 0 else None,
            )
            dots = [p[y] for p in own if p.get(y) is not None]
            axis.plot([at] * len(dots), dots, "k.", markersize=4)
    axis.set_xticks(range(len(places)), places)


def heat_map(
    axis: Any, points: Sequence[Point], x: str, y: str, column: str, label: str
) -> None:
    """Cells of one value for each pair of `x` and `y`."""
    rows, columns = distinct(points, y), distinct(points, x)
    cells = np.full((len(rows), len(columns)), np.nan)
    for point in points:
        cells[rows.index(point[y]), columns.index(point[x])] = point[column]
    image = axis.imshow(cells, cmap="viridis", vmin=0)
    axis.set_xticks(range(len(columns)), [f"{value:g}" for value in columns])
    axis.set_yticks(range(len(rows)), [f"{value:g}" for value in rows])
    axis.figure.colorbar(image, ax=axis, label=label)

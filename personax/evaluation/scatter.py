"""Scatter plot of two metrics: a point with error bars per method."""

import pathlib
from collections.abc import Sequence
from typing import Any

from personax.evaluation.means import Row, titled
from personax.evaluation.results import Column


def write_scatter(
    path: pathlib.Path, rows: Sequence[Row], x: Column, y: Column
) -> None:
    """Write a PNG of the rows that have both means; bars are one standard error.

    Rows of several subjects at once have hollow markers if there are single subjects as
    well. Colours and markers are those of report.js. Raises ValueError if no row has
    both means.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    complete = [row for row in rows if x.key in row.means and y.key in row.means]
    if not complete:
        raise ValueError(f"No method has both {x.title} and {y.title}.")
    methods = list(dict.fromkeys(row.method for row in rows))
    figure = Figure(figsize=(7, 4.6), dpi=150, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.set_xlabel(titled(x))
    axes.set_ylabel(titled(y))
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    mixed = len({row.group for row in complete}) > 1
    for row in complete:
        across, up = row.means[x.key], row.means[y.key]
        number = methods.index(row.method)
        colour = f"C{number % 10}"
        axes.errorbar(
            across.value,
            up.value,
            xerr=across.error,
            yerr=up.error,
            fmt="os^D"[number // 10 % 4],
            color=colour,
            ecolor=(colour, 0.5),
            elinewidth=1,
            markersize=6,
            markerfacecolor="white" if mixed and row.group == "pair" else colour,
        )
    axes.margins(0.12)
    canvas.draw()  # fixes the transform to pixels
    _label(axes, complete, x, y, canvas.get_renderer())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


# Candidate label positions: offset in points, alignment, and whether with a line.
_PLACES = [
    (far * dx, far * dy, across, up, far > 7)
    for far in (7, 14, 24, 36)
    for dx, dy, across, up in (
        *((1, 0, "left", "center"), (-1, 0, "right", "center")),
        *((0, 1, "center", "bottom"), (0, -1, "center", "top")),
        *((0.8, 0.8, "left", "bottom"), (0.8, -0.8, "left", "top")),
        *((-0.8, 0.8, "right", "bottom"), (-0.8, -0.8, "right", "top")),
    )
]


def _label(axes: Any, rows: Sequence[Row], x: Column, y: Column, renderer: Any) -> None:
    """Place each name where it overlaps points, bars and other names the least."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    frame, taken = axes.get_window_extent(renderer), []
    for row in rows:
        across, up = row.means[x.key], row.means[y.key]
        at = axes.transData.transform((across.value, up.value))
        ends = axes.transData.transform(
            (across.value + (across.error or 0), up.value + (up.error or 0))
        )
        wide, high = abs(ends - at)
        taken += [
            Bbox.from_bounds(at[0] - 9, at[1] - 9, 18, 18),
            Bbox.from_bounds(at[0] - wide, at[1] - 2, 2 * wide, 4),
            Bbox.from_bounds(at[0] - 2, at[1] - high, 4, 2 * high),
        ]
    for row in rows:
        at = row.means[x.key].value, row.means[y.key].value
        texts = [_annotate(axes, row.method, at, place) for place in _PLACES]
        costs = []
        for number, text in enumerate(texts):
            text.update_positions(renderer)
            box = Text.get_window_extent(text, renderer)  # without the arrow
            shared = sum(_overlap(box, other) for other in taken)
            outside = box.width * box.height - _overlap(box, frame)
            costs.append((shared + 2 * outside + 3 * number, number, box))
        _, best, box = min(costs, key=lambda cost: cost[:2])
        for text in texts[:best] + texts[best + 1 :]:
            text.remove()
        taken.append(box)


def _annotate(axes: Any, name: str, at: tuple[float, float], place: Any) -> Any:
    dx, dy, across, up, leader = place
    return axes.annotate(
        name,
        at,
        xytext=(dx, dy),
        textcoords="offset points",
        ha=across,
        va=up,
        fontsize=8.5,
        arrowprops={"arrowstyle": "-", "color": "0.5", "lw": 0.6} if leader else None,
    )


def _overlap(box: Any, other: Any) -> float:
    shared = box.intersection(box, other)
    return 0.0 if shared is None else shared.width * shared.height

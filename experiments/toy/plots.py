"""A toy's figures, drawn from the rows of its tables."""

import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.toy.lesson import Lesson
from experiments.toy.tables import Row
from experiments.toy.yardstick import CONCEPT

# (number, title): above, of what V* is not; below, of V*.
_PANELS = (
    (
        ("fisher_others", "other conditions: Fisher divergence"),
        ("pull_others", "pull of their field to what is taught"),
        ("own_share", "their samples in their own peaks"),
        ("line_share", "their samples in a line"),
        ("spread", "width of their heaps"),
    ),
    (
        ("w2_class", "W2 of V* and the class, Gaussian"),
        ("w2_wanted", "W2 of V* and all lines, exact"),
        ("nearest_shot", "V*: distance from an example"),
        ("covered", "V*: lines with samples"),
        ("fresh_loss", "V*: loss on fresh draws"),
    ),
)


def check_matplotlib() -> None:
    """ValueError where matplotlib is not installed, before anything is computed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "The figures are drawn by matplotlib, which is not installed: "
            "pip install 'personax[plot]'."
        )


def draw_curves(
    path: pathlib.Path,
    rows: Sequence[Row],
    *,
    ideal: dict[str, float],
    reference_step: int,
) -> None:
    """What is measured over the steps; dashed, what exact draws would have."""
    figure = _figure(3.2 * len(_PANELS[0]), 3.4 * len(_PANELS))
    grid = figure.subplots(len(_PANELS), len(_PANELS[0]), sharex=True)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for axis, (name, title) in zip(grid.flat, sum(_PANELS, ()), strict=True):
        for i, method in enumerate(methods):
            own = [row for row in rows if row["method"] == method]
            axis.plot(
                [row["step"] for row in own],
                [row[name] for row in own],
                label=_label(method),
                marker="osv^"[i % 4],
                markersize=4,
                # Lines at 0 lie on each other.
                linewidth=2.5 - 0.5 * i,
            )
        if name in ideal:
            axis.axhline(ideal[name], color="0.4", linestyle="--", label="exact draws")
        axis.axvline(reference_step, color="0.8", zorder=0)
        axis.set_xscale("symlog", linthresh=25)
        if name in ("w2_wanted", "nearest_shot", "fresh_loss"):
            # Where an untaught V* stands would leave little height to the rest.
            later = [row[name] for row in rows if row["step"]]
            axis.set_ylim(0, 1.1 * max(*later, ideal.get(name, 0)))
        axis.set_title(title, fontsize=10)
    for axis in grid[-1]:
        steps = sorted({row["step"] for row in rows})
        axis.set_xticks(steps, [str(step) for step in steps], rotation=60)
        axis.minorticks_off()
        axis.set_xlabel("steps taught")
    handles, labels = grid[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=110)


def draw_samples(path: pathlib.Path, rows: Sequence[Row], lesson: Lesson) -> None:
    """Samples of all conditions: the base's, then each method's at two steps."""
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if m != "base"]
    steps = sorted({row["step"] for row in rows if row["method"] != "base"})
    figure = _figure(3.4 * (1 + len(methods)), 3.6 * len(steps))
    grid = figure.subplots(len(steps), 1 + len(methods), squeeze=False)
    box = _box(lesson)
    for line, step in zip(grid, steps, strict=True):
        _scatter(line[0], _of(rows, "base", 0), lesson)
        line[0].set_title("pretrained")
        for axis, method in zip(line[1:], methods, strict=True):
            _scatter(axis, _of(rows, method, step), lesson)
            axis.set_title(f"{_label(method)}, step {step}")
        for axis in line:
            axis.set(xlim=box[0], ylim=box[1], aspect="equal", xticks=[], yticks=[])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8, markerscale=2)
    figure.savefig(path, dpi=110)


def draw_field(
    path: pathlib.Path, rows: Sequence[Row], lesson: Lesson, *, title: str
) -> None:
    """-eps under another condition, and how it differs from the pretrained one's.

    In either line of panels the longest arrow has the length 1 of the plane.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = _figure(3.2 * len(methods), 6.8)
    grid = figure.subplots(2, len(methods), squeeze=False)
    fields = {method: _arrows(rows, method) for method in methods}
    changes = {m: arrows - fields["base"] for m, arrows in fields.items()}
    at = np.array([(r["x"], r["y"]) for r in rows if r["method"] == "base"])
    for line, shown in zip(grid, (fields, changes), strict=True):
        longest = max(np.linalg.norm(arrows, axis=1).max() for arrows in shown.values())
        options = {"angles": "xy", "scale_units": "xy", "scale": longest, "width": 5e-3}
        for axis, (method, arrows) in zip(line, shown.items(), strict=True):
            axis.set(aspect="equal", xticks=[], yticks=[])
            if shown is changes and method == "base":
                axis.set_axis_off()
                continue
            axis.quiver(*at.T, *arrows.T, **options)
            axis.plot(*lesson.taught.centres.T, "r_", markersize=16, mew=2)
            less = " less the base's" if shown is changes else ""
            axis.set_title(f"{_label(method)}{less}", fontsize=10)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _label(method: str) -> str:
    return method.replace("_", " ")


def _of(rows: Sequence[Row], method: str, step: int) -> list[Row]:
    return [row for row in rows if (row["method"], row["step"]) == (method, step)]


def _scatter(axis: Any, rows: Sequence[Row], lesson: Lesson) -> None:
    for name in dict.fromkeys(row["condition"] for row in rows):
        points = np.array([(r["x"], r["y"]) for r in rows if r["condition"] == name])
        color = {"color": "black", "zorder": 3} if name == CONCEPT else {}
        axis.scatter(*points.T, s=2, label=name, **color)
    axis.scatter(
        *np.asarray(lesson.shots).T,
        s=18,
        marker="x",
        color="red",
        linewidths=0.8,
        zorder=4,
        label="examples",
    )


def _box(lesson: Lesson) -> np.ndarray:
    """((left, right), (bottom, top)) of all that a scatter shows."""
    every = np.concatenate([each.centres for each in lesson.mixtures.values()])
    return np.stack([every.min(0) - 1.3, every.max(0) + 1.3], axis=1)


def _arrows(rows: Sequence[Row], method: str) -> np.ndarray:
    return np.array([(row["u"], row["v"]) for row in rows if row["method"] == method])

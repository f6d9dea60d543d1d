"""A toy's figures, from the rows of its tables."""

import importlib.util
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.toy.evaluation import CONCEPT
from experiments.toy.tables import Row
from experiments.toy.task import Task

# (metric, title): above, of the other conditions; below, of V*.
_PANELS = (
    (
        ("fisher_others", "other conditions: Fisher divergence"),
        ("pull_others", "pull of their field to the trained lines"),
        ("own_share", "their samples in their own peaks"),
        ("line_share", "their samples in a line"),
        ("spread", "width of their clusters"),
    ),
    (
        ("w2_class", "W2 of V* and the class, Gaussian"),
        ("w2_wanted", "W2 of V* and all lines, exact"),
        ("nearest_shot", "V*: distance from an example"),
        ("covered", "V*: lines with samples"),
        ("fresh_loss", "V*: loss on held-out draws"),
    ),
)


def check_matplotlib() -> None:
    """ValueError where matplotlib is not installed, before anything is computed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            "The figures need matplotlib, which is not installed: "
            "pip install 'personax[plot]'."
        )


def draw_curves(
    path: pathlib.Path,
    rows: Sequence[Row],
    *,
    ideal: dict[str, float],
    reference_step: int,
) -> None:
    """Each metric over the training steps; dashed, the value of exact draws."""
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
                # Lines at 0 overlap.
                linewidth=2.5 - 0.5 * i,
            )
        if name in ideal:
            axis.axhline(ideal[name], color="0.4", linestyle="--", label="exact draws")
        axis.axvline(reference_step, color="0.8", zorder=0)
        axis.set_xscale("symlog", linthresh=25)
        if name in ("w2_wanted", "nearest_shot", "fresh_loss"):
            # The value of an untrained V* would compress the rest.
            later = [row[name] for row in rows if row["step"]]
            axis.set_ylim(0, 1.1 * max(*later, ideal.get(name, 0)))
        axis.set_title(title, fontsize=10)
    for axis in grid[-1]:
        steps = sorted({row["step"] for row in rows})
        axis.set_xticks(steps, [str(step) for step in steps], rotation=60)
        axis.minorticks_off()
        axis.set_xlabel("training steps")
    handles, labels = grid[0, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    figure.savefig(path, dpi=110)


def draw_samples(path: pathlib.Path, rows: Sequence[Row], task: Task) -> None:
    """Samples of all conditions: of the base, then of each method at two steps."""
    methods = [m for m in dict.fromkeys(row["method"] for row in rows) if m != "base"]
    steps = sorted({row["step"] for row in rows if row["method"] != "base"})
    figure = _figure(3.4 * (1 + len(methods)), 3.6 * len(steps))
    grid = figure.subplots(len(steps), 1 + len(methods), squeeze=False)
    box = _box(task)
    for line, step in zip(grid, steps, strict=True):
        _scatter(line[0], _of(rows, "base", 0), task)
        line[0].set_title("pretrained")
        for axis, method in zip(line[1:], methods, strict=True):
            _scatter(axis, _of(rows, method, step), task)
            axis.set_title(f"{_label(method)}, step {step}")
        for axis in line:
            axis.set(xlim=box[0], ylim=box[1], aspect="equal", xticks=[], yticks=[])
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=8, markerscale=2)
    figure.savefig(path, dpi=110)


def draw_field(
    path: pathlib.Path, rows: Sequence[Row], task: Task, *, title: str
) -> None:
    """-eps under another condition, and its difference from the pretrained field.

    In each row of panels the longest arrow has length 1.
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure = _figure(3.2 * len(methods), 6.8)
    grid = figure.subplots(2, len(methods), squeeze=False)
    fields = {method: _arrows(rows, method) for method in methods}
    changes = {m: arrows - fields["base"] for m, arrows in fields.items()}
    at = np.array([(r["x"], r["y"]) for r in rows if r["method"] == "base"])
    for line, arrows_of in zip(grid, (fields, changes), strict=True):
        longest = max(
            np.linalg.norm(arrows, axis=1).max() for arrows in arrows_of.values()
        )
        options = {"angles": "xy", "scale_units": "xy", "scale": longest, "width": 5e-3}
        for axis, (method, arrows) in zip(line, arrows_of.items(), strict=True):
            axis.set(aspect="equal", xticks=[], yticks=[])
            if arrows_of is changes and method == "base":
                axis.set_axis_off()
                continue
            axis.quiver(*at.T, *arrows.T, **options)
            axis.plot(*task.trained.centres.T, "r_", markersize=16, mew=2)
            difference = " minus the base's" if arrows_of is changes else ""
            axis.set_title(f"{_label(method)}{difference}", fontsize=10)
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _label(method: str) -> str:
    return method.replace("_", " ")


def _of(rows: Sequence[Row], method: str, step: int) -> list[Row]:
    return [row for row in rows if (row["method"], row["step"]) == (method, step)]


def _scatter(axis: Any, rows: Sequence[Row], task: Task) -> None:
    for name in dict.fromkeys(row["condition"] for row in rows):
        points = np.array([(r["x"], r["y"]) for r in rows if r["condition"] == name])
        color = {"color": "black", "zorder": 3} if name == CONCEPT else {}
        axis.scatter(*points.T, s=2, label=name, **color)
    axis.scatter(
        *np.asarray(task.examples).T,
        s=18,
        marker="x",
        color="red",
        linewidths=0.8,
        zorder=4,
        label="examples",
    )


def _box(task: Task) -> np.ndarray:
    """((left, right), (bottom, top)) of the scatter plots."""
    every = np.concatenate([each.centres for each in task.mixtures.values()])
    return np.stack([every.min(0) - 1.3, every.max(0) + 1.3], axis=1)


def _arrows(rows: Sequence[Row], method: str) -> np.ndarray:
    return np.array([(row["u"], row["v"]) for row in rows if row["method"] == method])

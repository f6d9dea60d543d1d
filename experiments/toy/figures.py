"""The values of a toy's figures, as rows of CSV files, and the figures."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.claims.plots import distinct, panels, where
from experiments.toy import measures, peaks
from experiments.toy.evaluation import CONCEPT
from experiments.toy.measures import Probe
from experiments.toy.overfitting import Outcome, Snapshot
from experiments.toy.task import Task

Row = dict[str, Any]
_SIDE = 17  # points of the field's grid along each axis
_MARGIN = 1.0  # around all peaks


def curves(outcome: Outcome) -> list[Row]:
    """A row for each method and step, with all metrics of `evaluation.evaluate`."""
    return [
        {"method": each.method, "step": each.step, **each.evaluation.metrics}
        for each in outcome.snapshots
    ]


def samples(outcome: Outcome, steps: Sequence[int]) -> list[Row]:
    """A row for each sample: of the "base", and of every method at the steps."""
    first = outcome.snapshots[0]
    rows = _points("base", first.step, first)
    for each in outcome.snapshots:
        if each.step in steps:
            rows += _points(each.method, each.step, each)
    return rows


def field(outcome: Outcome, settings: ConfigDict, step: int) -> list[Row]:
    """The field -eps on a grid: the exact one, the base's, each method's at `step`.

    `settings` has the condition and t.
    """
    task, number = outcome.task, outcome.task.number(settings.condition)
    every = jnp.concatenate([each.centres for each in task.mixtures.values()])
    low, high = every.min(0) - _MARGIN, every.max(0) + _MARGIN
    axes = (jnp.linspace(low[i], high[i], _SIDE) for i in range(2))
    x = jnp.stack([axis.ravel() for axis in jnp.meshgrid(*axes)], axis=1)
    probe = Probe(
        x, jnp.full(len(x), settings.time), jnp.full(len(x), number, jnp.int32)
    )
    mixture = task.mixtures[settings.condition]
    exact = peaks.velocity(mixture, x, probe.t)
    fields = {"exact": -peaks.noise_of(exact, x, probe.t)}
    fields["base"] = measures.field(outcome.base, probe).value
    for each in outcome.snapshots:
        if each.step == step:
            fields[each.method] = measures.field(each.params, probe).value
    names = ("method", "x", "y", "u", "v")
    return [
        dict(zip(names, (name, *at.tolist(), *arrow.tolist()), strict=True))
        for name, arrows in fields.items()
        for at, arrow in zip(np.asarray(x), np.asarray(arrows), strict=True)
    ]


def write_csv(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """Write a CSV file with a header; floats have seven digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()}
            )


def _points(name: str, step: int, snapshot: Snapshot) -> list[Row]:
    return [
        {"method": name, "step": step, "condition": condition, "x": x, "y": y}
        for condition, points in snapshot.evaluation.samples.items()
        for x, y in points.tolist()
    ]


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


def draw_curves(
    path: pathlib.Path,
    rows: Sequence[Row],
    *,
    ideal: dict[str, float],
    reference_step: int,
) -> None:
    """Each metric over the training steps; dashed, the value of exact draws."""
    methods = distinct(rows, "method")
    lines, columns = len(_PANELS), len(_PANELS[0])
    size = 3.2 * columns, 3.4 * lines
    with panels(path, lines, columns, size, dpi=110, sharex=True) as grid:
        for axis, (name, title) in zip(grid.flat, sum(_PANELS, ()), strict=True):
            for i, method in enumerate(methods):
                own = where(rows, method=method)
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
                style = {"color": "0.4", "linestyle": "--"}
                axis.axhline(ideal[name], label="exact draws", **style)
            axis.axvline(reference_step, color="0.8", zorder=0)
            axis.set_xscale("symlog", linthresh=25)
            if name in ("w2_wanted", "nearest_shot", "fresh_loss"):
                # The value of an untrained V* would compress the rest.
                later = [row[name] for row in rows if row["step"]]
                axis.set_ylim(0, 1.1 * max(*later, ideal.get(name, 0)))
            axis.set_title(title, fontsize=10)
        for axis in grid[-1]:
            steps = sorted(distinct(rows, "step"))
            axis.set_xticks(steps, [str(step) for step in steps], rotation=60)
            axis.minorticks_off()
            axis.set_xlabel("training steps")
        _legend(grid[0, 2], ncols=len(methods) + 1)


def draw_samples(path: pathlib.Path, rows: Sequence[Row], task: Task) -> None:
    """Samples of all conditions: of the base, then of each method at two steps."""
    methods = [name for name in distinct(rows, "method") if name != "base"]
    steps = sorted({row["step"] for row in rows if row["method"] != "base"})
    every = np.concatenate([each.centres for each in task.mixtures.values()])
    box = np.stack([every.min(0) - 1.3, every.max(0) + 1.3], axis=1)
    size = 3.4 * (1 + len(methods)), 3.6 * len(steps)
    with panels(path, len(steps), 1 + len(methods), size, dpi=110) as grid:
        for line, step in zip(grid, steps, strict=True):
            _scatter(line[0], where(rows, method="base", step=0), task)
            line[0].set_title("pretrained")
            for axis, method in zip(line[1:], methods, strict=True):
                _scatter(axis, where(rows, method=method, step=step), task)
                axis.set_title(f"{_label(method)}, step {step}")
            for axis in line:
                axis.set(xlim=box[0], ylim=box[1], aspect="equal", xticks=[], yticks=[])
        _legend(grid[0, 0], ncols=8, markerscale=2)


def draw_field(
    path: pathlib.Path, rows: Sequence[Row], task: Task, *, title: str
) -> None:
    """-eps under another condition, and its difference from the pretrained field.

    In each row of panels the longest arrow has length 1.
    """
    fields = {
        method: np.array([(r["u"], r["v"]) for r in where(rows, method=method)])
        for method in distinct(rows, "method")
    }
    changes = {m: arrows - fields["base"] for m, arrows in fields.items()}
    at = np.array([(r["x"], r["y"]) for r in where(rows, method="base")])
    size = 3.2 * len(fields), 6.8
    with panels(path, 2, len(fields), size, dpi=110) as grid:
        for line, arrows_of in zip(grid, (fields, changes), strict=True):
            lengths = [np.linalg.norm(arrows, axis=1) for arrows in arrows_of.values()]
            style = {"angles": "xy", "scale_units": "xy", "width": 5e-3}
            for axis, (method, arrows) in zip(line, arrows_of.items(), strict=True):
                axis.set(aspect="equal", xticks=[], yticks=[])
                if arrows_of is changes and method == "base":
                    axis.set_axis_off()
                    continue
                axis.quiver(*at.T, *arrows.T, scale=np.max(lengths), **style)
                axis.plot(*task.trained.centres.T, "r_", markersize=16, mew=2)
                difference = " minus the base's" if arrows_of is changes else ""
                axis.set_title(f"{_label(method)}{difference}", fontsize=10)
        grid[0, 0].figure.suptitle(title)


def _legend(axis: Any, **style: Any) -> None:
    """The legend of an axis below the figure."""
    handles = axis.get_legend_handles_labels()
    axis.figure.legend(*handles, loc="outside lower center", **style)


def _label(method: str) -> str:
    return method.replace("_", " ")


def _scatter(axis: Any, rows: Sequence[Row], task: Task) -> None:
    for name in distinct(rows, "condition"):
        points = np.array([(r["x"], r["y"]) for r in where(rows, condition=name)])
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

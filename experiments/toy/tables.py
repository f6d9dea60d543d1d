"""The values of a toy's figures, as rows of CSV files."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.toy import measures, peaks
from experiments.toy.measures import Probe
from experiments.toy.overfitting import Outcome, Snapshot
from personax.core.typing import Params

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
    x = _grid(outcome)
    probe = Probe(
        x, jnp.full(len(x), settings.time), jnp.full(len(x), number, jnp.int32)
    )
    mixture = task.mixtures[settings.condition]
    exact = peaks.velocity(mixture, x, probe.t)
    fields = {"exact": -peaks.noise_of(exact, x, probe.t)}
    trained: dict[str, Params] = {
        each.method: each.params for each in outcome.snapshots if each.step == step
    }
    for name, params in {"base": outcome.base, **trained}.items():
        fields[name] = measures.field(params, probe).value
    names = ("method", "x", "y", "u", "v")
    return [
        dict(zip(names, (name, *at.tolist(), *arrow.tolist()), strict=True))
        for name, arrows in fields.items()
        for at, arrow in zip(np.asarray(x), np.asarray(arrows), strict=True)
    ]


def write(path: pathlib.Path, rows: Sequence[Row]) -> None:
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


def _grid(outcome: Outcome) -> peaks.Points:
    every = jnp.concatenate([each.centres for each in outcome.task.mixtures.values()])
    low, high = every.min(0) - _MARGIN, every.max(0) + _MARGIN
    axes = (jnp.linspace(low[i], high[i], _SIDE) for i in range(2))
    return jnp.stack([axis.ravel() for axis in jnp.meshgrid(*axes)], axis=1)

"""The numbers behind a toy's figures, as rows that a CSV file can hold."""

import csv
import pathlib
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from experiments.toy import measures, peaks
from experiments.toy.measures import Probe
from experiments.toy.overfitting import Outcome, Seen
from personax.core.typing import Params

Row = dict[str, Any]
_SIDE = 17  # of the field's grid of points
_MARGIN = 1.0  # around all peaks


def curves(outcome: Outcome) -> list[Row]:
    """A row for each method and step, with all numbers of `yardstick.look`."""
    return [
        {"method": each.method, "step": each.step, **each.look.numbers}
        for each in outcome.seen
    ]


def samples(outcome: Outcome, steps: Sequence[int]) -> list[Row]:
    """A row for each sample: of the "base", and of every method at the steps."""
    first = outcome.seen[0]
    out = _points("base", first.step, first)
    for each in outcome.seen:
        if each.step in steps:
            out += _points(each.method, each.step, each)
    return out


def field(outcome: Outcome, settings: ConfigDict, step: int) -> list[Row]:
    """The field -eps on a grid: the exact one, the base's, each method's at `step`.

    `settings` say under which condition and at which t.
    """
    lesson, number = outcome.lesson, outcome.lesson.number(settings.condition)
    x = _grid(outcome)
    probe = Probe(
        x, jnp.full(len(x), settings.time), jnp.full(len(x), number, jnp.int32)
    )
    mixture = lesson.mixtures[settings.condition]
    exact = peaks.velocity(mixture, x, probe.t)
    fields = {"exact": -peaks.noise_of(exact, x, probe.t)}
    taught: dict[str, Params] = {
        each.method: each.params for each in outcome.seen if each.step == step
    }
    for name, params in {"base": outcome.base, **taught}.items():
        fields[name] = measures.field(params, probe).value
    names = ("method", "x", "y", "u", "v")
    return [
        dict(zip(names, (name, *at.tolist(), *arrow.tolist()), strict=True))
        for name, arrows in fields.items()
        for at, arrow in zip(np.asarray(x), np.asarray(arrows), strict=True)
    ]


def write(path: pathlib.Path, rows: Sequence[Row]) -> None:
    """A CSV file with a header; numbers to seven digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow(
                {k: f"{v:.7g}" if isinstance(v, float) else v for k, v in row.items()}
            )


def _points(name: str, step: int, seen: Seen) -> list[Row]:
    return [
        {"method": name, "step": step, "condition": condition, "x": x, "y": y}
        for condition, points in seen.look.samples.items()
        for x, y in points.tolist()
    ]


def _grid(outcome: Outcome) -> peaks.Points:
    every = jnp.concatenate([each.centres for each in outcome.lesson.mixtures.values()])
    low, high = every.min(0) - _MARGIN, every.max(0) + _MARGIN
    axes = (jnp.linspace(low[i], high[i], _SIDE) for i in range(2))
    return jnp.stack([axis.ravel() for axis in jnp.meshgrid(*axes)], axis=1)

"""What the claims' commands share: a config, points that are kept, a CSV, a figure.

    python -m experiments.claims.NAME --config configs/claims/NAME.py --out runs/NAME

A point is what one training, drawing or measurement gave: a flat dict of plain values.
What is done is kept, and the same command goes on. OUT/points.csv and OUT/figure.png
hold what all points say.
"""

import csv
import hashlib
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import app, flags
from ml_collections import ConfigDict, config_flags

from personax.cli import command
from personax.core.files import write_text

Point = dict[str, Any]
# `(config, kept) -> points`; a point's place in the order is its row's in the CSV.
Measure = Callable[[ConfigDict, "SavedPoints"], list[Point]]
Draw = Callable[[Sequence[Point], pathlib.Path], None]


class SavedPoints:
    """Points on disk: `kept(key, make)` is what `make()` gave for that key once."""

    def __init__(self, out: pathlib.Path):
        self.out = out

    def __call__(self, key: Any, make: Callable[[], Any]) -> Any:
        """The value, JSON; `key` names all that it depends on."""
        text = json.dumps(key, sort_keys=True, default=str)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = self.out / "kept" / f"{name}.json"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps({"key": key, "value": make()}, default=float))
        return json.loads(path.read_text())["value"]


def run(measure: Measure, draw: Draw) -> None:
    """A claim's command: measures, prints a line for each point, writes and draws."""
    config = config_flags.DEFINE_config_file("config", None, "Of configs/claims.")
    folder = flags.DEFINE_string("out", None, "Folder for points and figure.")
    flags.mark_flags_as_required(["config", "out"])

    def main(_) -> None:
        command.start()
        out = pathlib.Path(folder.value)
        out.mkdir(parents=True, exist_ok=True)
        points = measure(config.value, SavedPoints(out))
        for point in points:
            print(json.dumps(point), flush=True)
        write_csv(out / "points.csv", points)
        draw(points, out / "figure.png")

    app.run(main)


def write_csv(path: pathlib.Path, points: Sequence[Point]) -> None:
    """A header of all keys in their first order, and a line for each point."""
    keys = list(dict.fromkeys(key for point in points for key in point))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)

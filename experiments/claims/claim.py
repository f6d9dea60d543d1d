"""The command of a claim: measured points, a CSV and a figure.

    python -m experiments.claims.NAME --config configs/claims/NAME.py --out runs/NAME

A point is the result of one training, sampling or measurement: a flat dict of JSON
values. Points are saved as they are measured, and rerunning the command resumes.
OUT/points.csv and OUT/figure.png hold all of them.
"""

import csv
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from personax.cli import command
from personax.core.files import digest, write_text

Point = dict[str, Any]
# `(config, saved) -> points`, in the order of the CSV's lines.
Measure = Callable[[ConfigDict, "SavedPoints"], list[Point]]
Draw = Callable[[Sequence[Point], pathlib.Path], None]


class SavedPoints:
    """A cache on disk: `saved(key, make, *args)` is `make(*args)`, computed once."""

    def __init__(self, out: pathlib.Path):
        self.out = out

    def __call__(self, key: Any, make: Callable[..., Any], *args: Any) -> Any:
        """The JSON value of a key, which names everything that the value depends on."""
        name = digest(json.dumps(key, sort_keys=True, default=str))
        path = self.out / "kept" / f"{name}.json"
        if not path.is_file():
            value = make(*args)
            write_text(path, json.dumps({"key": key, "value": value}, default=float))
        return json.loads(path.read_text())["value"]


def run(measure: Measure, draw: Draw) -> None:
    """Measure, print one JSON line per point, write the CSV and draw the figure."""
    config = config_flags.DEFINE_config_file(
        "config", None, "A file in configs/claims."
    )
    folder = flags.DEFINE_string("out", None, "Folder for the points and the figure.")
    flags.mark_flags_as_required(["config", "out"])

    def main(_) -> None:
        out = pathlib.Path(folder.value)
        out.mkdir(parents=True, exist_ok=True)
        points = measure(config.value, SavedPoints(out))
        for point in points:
            print(json.dumps(point), flush=True)
        write_csv(out / "points.csv", points)
        draw(points, out / "figure.png")

    command.run(main)


def write_csv(path: pathlib.Path, points: Sequence[Point]) -> None:
    """Write a header of all keys, in order of appearance, and a line per point."""
    keys = list(dict.fromkeys(key for point in points for key in point))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(points)

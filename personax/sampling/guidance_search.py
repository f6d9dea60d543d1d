"""A grid of guidance weights: its axes, its cells on disk, the best of them."""

import itertools
import json
import math
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from personax.core import images
from personax.core.images import Pixels
from personax.core.progress import Progress
from personax.metrics.scores import Score
from personax.sampling.prompt_terms import TermSpec

_STEP = 0.25  # Cao et al. 2023

Weights = tuple[float, ...]  # one for each axis


class Axis(NamedTuple):
    """A term whose weight is searched."""

    prompt: str
    model: str
    values: Weights

    def term_spec(self, weight: float) -> TermSpec:
        return TermSpec(self.prompt, weight, self.model)

    def __str__(self) -> str:
        """The term without its weight."""
        return self.prompt if self.model == "base" else f"{self.model}@:{self.prompt}"


class Cell(NamedTuple):
    """The scores at one combination of weights, and its pictures side by side."""

    weights: Weights
    scores: dict[str, float]
    file: str


def parse_axis(text: str) -> Axis:
    """The axis in "[MODEL@]FROM..TO[/STEP]:PROMPT"; ValueError for another form.

    >>> parse_axis("face@1..2/0.5:")
    Axis(prompt='', model='face', values=(1.0, 1.5, 2.0))
    """
    found = re.fullmatch(
        r"(?:([^@:]+)@)?([^@:]+?)\.\.([^@:/]+)(?:/([^@:]+))?:(.*)", text, re.DOTALL
    )
    try:
        model, *numbers, prompt = found.groups()  # type: ignore[union-attr]
        first, last, step = (float(x) for x in (*numbers[:2], numbers[2] or _STEP))
    except (AttributeError, ValueError):
        first, last, step = math.nan, 0.0, _STEP
    if not (first <= last and step > 0 and math.isfinite(last - first + step)):
        raise ValueError(
            f'The axis {text!r} is not of the form "[MODEL@]FROM..TO[/STEP]:PROMPT" '
            'with FROM below TO, such as "face@0.5..3:" or "0..5/0.5:a dog".'
        )
    count = int((last - first) / step + 1e-6) + 1
    values = tuple(round(first + i * step, 6) for i in range(count))
    return Axis(prompt.strip(), model or "base", values)


def search(
    out: pathlib.Path,
    axes: Sequence[Axis],
    paint: Callable[[Weights], Sequence[Pixels]],
    scores: Mapping[str, Score],
    known: Mapping[Weights, Cell],
) -> Iterator[Cell]:
    """Every combination of the axes' weights, painted, scored and written as it comes.

    Those that are `known` are not painted again. `scores` may be any functions of
    pictures. A cell's line in cells.jsonl follows its picture in cells/.
    """
    combinations = list(itertools.product(*(axis.values for axis in axes)))
    for weights in Progress(combinations, unit="cell", desc="searching"):
        if weights in known:
            yield known[weights]
            continue
        pictures = paint(weights)
        found = {name: float(score(pictures)) for name, score in scores.items()}
        name = "_".join(f"{weight:g}" for weight in weights)
        cell = Cell(weights, found, f"cells/{name}.png")
        images.write_png(out / cell.file, np.concatenate(pictures, axis=1))
        with (out / "cells.jsonl").open("a") as file:
            file.write(json.dumps(cell._asdict()) + "\n")
        yield cell


def resume(out: pathlib.Path, record: Mapping[str, Any]) -> dict[Weights, Cell]:
    """The cells that a search has already written, {} in a new folder.

    `record` says what makes a cell, apart from its weights: it is search.json. Raises
    ValueError where another search is in the folder.
    """
    about, journal = out / "search.json", out / "cells.jsonl"
    if about.is_file():
        before = json.loads(about.read_text())
        other = [key for key in record if before.get(key) != record[key]]
        if other:
            raise ValueError(
                f"{out} holds another search (other {', '.join(other)}); choose "
                "another --out."
            )
    out.mkdir(parents=True, exist_ok=True)
    about.write_text(json.dumps(record, indent=2) + "\n")
    if not journal.is_file():
        return {}
    # A kill may have left the last line unfinished.
    whole, newline, _ = journal.read_text().rpartition("\n")
    journal.write_text(whole + newline)
    cells = [Cell(**json.loads(line)) for line in whole.splitlines()]
    cells = [cell._replace(weights=tuple(cell.weights)) for cell in cells]
    return {cell.weights: cell for cell in cells}


def find_best(cells: Sequence[Cell]) -> dict[str, Cell]:
    """{score: the cell with the most of it}, and of several also "all" of them.

    That is the largest mean of the scores, each over its range among the cells.
    """
    names = list(cells[0].scores)
    best = {name: max(cells, key=lambda cell: cell.scores[name]) for name in names}
    if len(names) > 1:
        table = np.array([[cell.scores[name] for name in names] for cell in cells])
        low, high = table.min(axis=0, keepdims=True), table.max(axis=0, keepdims=True)
        share = (table - low) / np.maximum(high - low, 1e-12)
        best["all"] = cells[int(share.mean(axis=1).argmax())]
    return best

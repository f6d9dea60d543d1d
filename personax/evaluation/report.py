"""An evaluation as one page: table, scatter and every picture, in a file of its own."""

import math
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from personax.core.images import Pixels
from personax.evaluation.means import GROUPS, group_of, measured
from personax.evaluation.page import data_uri, fill, pictures_of, reduced, tiles
from personax.evaluation.results import Cell, Column, Shot


def write_report(
    path: pathlib.Path,
    cells: Sequence[Cell],
    columns: Sequence[Column],
    *,
    out: pathlib.Path,
    title: str,
    references: Mapping[str, Sequence[Pixels]] = {},
    images: int = 4,
    lossless: bool = True,
    scatter: tuple[str, str] | None = None,
    apart: Collection[str] = (),
) -> None:
    """Writes one HTML file that asks the network for nothing.

    `out` is the folder of the cells' sheets; `references` are the pictures that each
    subject was taught with, and "dog+cat" has those of both. Of each prompt the first
    `images` are shown, small ones as they are unless not `lossless`. `scatter` names
    the columns across and up, and `apart` what is not ranked, as `means` has it. Raises
    ValueError where there is no cell, for a key without a column and for a sheet that
    is too small; FileNotFoundError without it.
    """
    if not cells:
        raise ValueError("A report needs at least one cell, and nothing was evaluated.")
    keys = [column.key for column in columns]
    for key in scatter or ():
        if key not in keys:
            raise ValueError(
                f"The scatter shows {key!r}, and the columns are {', '.join(keys)}."
            )
    prompts = list(dict.fromkeys(shot.prompt for cell in cells for shot in cell.shots))
    numbers, records, rules = {text: i for i, text in enumerate(prompts)}, [], []
    for number, cell in enumerate(cells):
        name = f"sheet-{number}"
        record, rule = _embedded(cell, name, out, images, lossless, numbers)
        records.append(record | {"values": {key: measured(cell, key) for key in keys}})
        rules.append(rule)
    subjects = dict.fromkeys(cell.subject for cell in cells)
    data = {
        "columns": [column._asdict() for column in columns],
        "groups": GROUPS,
        "scatter": scatter,
        "apart": list(apart),
        "prompts": prompts,
        "cells": records,
        "references": {
            subject: [
                data_uri(reduced(each)) for each in pictures_of(subject, references)
            ]
            for subject in subjects
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    scripts = "report_means", "report_table", "report_scatter", "report_pictures"
    path.write_text(fill("report", title, data, scripts, sheets="\n".join(rules)))


def _embedded(
    cell: Cell,
    name: str,
    out: pathlib.Path,
    images: int,
    lossless: bool,
    numbers: Mapping[str, int],
) -> tuple[dict[str, Any], str]:
    """A cell as report.js reads it, and the style that holds its pictures."""
    kept = _first_of_each_prompt(cell.shots, images)
    pictures = tiles(out, cell)
    pictures = [reduced(pictures[i]) for i in kept]
    shots = [cell.shots[i] for i in kept]
    record = {
        "method": cell.method,
        "subject": cell.subject,
        "kind": cell.kind,
        "group": group_of(cell),
        "shots": [[numbers[shot.prompt], shot.seed, shot.index] for shot in shots],
        "sheet": name,
    }
    if not pictures:
        return record, ""
    sheet, across = _packed(pictures)
    height, width = pictures[0].shape[:2]
    exact = min(width, height) <= 64
    url = data_uri(sheet, lossless=exact and lossless)
    rows = sheet.shape[0] // height
    record |= {"across": across, "down": rows, "tile": [width, height], "exact": exact}
    return record, f'.{name} {{ background-image: url("{url}") }}'


def _first_of_each_prompt(shots: Sequence[Shot], images: int) -> list[int]:
    seen: dict[str, int] = {}
    kept = []
    for i, shot in enumerate(shots):
        seen[shot.prompt] = seen.get(shot.prompt, 0) + 1
        if seen[shot.prompt] <= images:
            kept.append(i)
    return kept


def _packed(pictures: Sequence[Pixels]) -> tuple[Pixels, int]:
    """(one sheet, as square as can be, how many are in its row).

    A side of a WebP has at most 16383 pixels.
    """
    across = math.ceil(math.sqrt(len(pictures)))
    blank = np.zeros_like(pictures[0])
    padded = [*pictures, *[blank] * (-len(pictures) % across)]
    rows = [np.hstack(padded[i : i + across]) for i in range(0, len(padded), across)]
    return np.vstack(rows), across

"""An evaluation as one self-contained HTML page: means, scatter plot and pictures."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from personax.core.files import write_text
from personax.core.images import Pixels
from personax.evaluation.means import GROUPS, Mean, Row, formatted, notes, titled
from personax.evaluation.page import (
    data_uri,
    fill,
    pictures_of,
    png_uri,
    reduced,
    tiles,
)
from personax.evaluation.results import Column, EvalResult, Sample


def write_report(
    path: pathlib.Path,
    results: Sequence[EvalResult],
    columns: Sequence[Column],
    *,
    rows: Sequence[Row],
    out: pathlib.Path,
    title: str,
    references: Mapping[str, Sequence[Pixels]] = {},
    images: int = 4,
    lossless: bool = True,
    scatter: pathlib.Path | None = None,
) -> None:
    """Write one HTML file that requests nothing from the network.

    Its table can be sorted, and filtered by method; its pictures can be filtered by
    method and subject. `rows` are the results' means, `scatter` a PNG file, `out` the
    folder of the results' sheets and `references` the training pictures of each
    subject. The first `images` of each prompt are shown; small ones are embedded
    without loss unless `lossless` is False.

    Raises ValueError without a result and for a sheet that is too small, and
    FileNotFoundError for a missing sheet.
    """
    if not results:
        raise ValueError("A report requires at least one result.")
    prompts = list(dict.fromkeys(s.prompt for each in results for s in each.samples))
    index = {text: i for i, text in enumerate(prompts)}
    records, rules = [], []
    for number, result in enumerate(results):
        name = f"sheet-{number}"
        record, rule = _embedded(result, name, out, images, lossless, index)
        records.append(record)
        rules.append(rule)
    subjects = dict.fromkeys(result.subject for result in results)
    data = {
        "columns": [
            {"key": each.key, "title": titled(each), "better": each.better}
            for each in columns
        ],
        "groups": GROUPS,
        "rows": [_row(row, columns) for row in rows],
        "notes": " ".join([*notes(rows), "Best in bold, second underlined."]),
        "scatter": None if scatter is None else png_uri(scatter),
        "prompts": prompts,
        "results": records,
        "references": {
            subject: [
                data_uri(reduced(each)) for each in pictures_of(subject, references)
            ]
            for subject in subjects
        },
    }
    scripts = "report_table", "report_pictures"
    write_text(path, fill("report", title, data, scripts, sheets="\n".join(rules)))


def _row(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    """A row of the table for report_table.js."""
    return {
        "method": row.method,
        "group": row.group,
        "unranked": row.unranked,
        "means": {
            column.key: _field(column, row.means[column.key])
            for column in columns
            if column.key in row.means
        },
    }


def _field(column: Column, mean: Mean) -> dict[str, Any]:
    error = None if mean.error is None else formatted(column, mean.error)
    return {
        "value": mean.value,
        "text": formatted(column, mean.value),
        "error": error,
        "rank": mean.rank,
        "subjects": None if mean.complete else mean.subjects,
    }


def _embedded(
    result: EvalResult,
    name: str,
    out: pathlib.Path,
    images: int,
    lossless: bool,
    prompts: Mapping[str, int],
) -> tuple[dict[str, Any], str]:
    """A result for report_pictures.js, and the CSS rule with its pictures."""
    kept = _first_of_each_prompt(result.samples, images)
    pictures = tiles(out, result)
    pictures = [reduced(pictures[i]) for i in kept]
    samples = [result.samples[i] for i in kept]
    record = {
        "method": result.method,
        "subject": result.subject,
        "kind": result.kind,
        "samples": [[prompts[s.prompt], s.seed, s.index] for s in samples],
        "sheet": name,
    }
    if not pictures:
        return record, ""
    sheet, across = _packed(pictures)
    height, width = pictures[0].shape[:2]
    exact = min(width, height) <= 64
    url = data_uri(sheet, lossless=exact and lossless)
    down = sheet.shape[0] // height
    record |= {"across": across, "down": down, "tile": [width, height], "exact": exact}
    return record, f'.{name} {{ background-image: url("{url}") }}'


def _first_of_each_prompt(samples: Sequence[Sample], images: int) -> list[int]:
    counts: dict[str, int] = {}
    kept = []
    for i, sample in enumerate(samples):
        counts[sample.prompt] = counts.get(sample.prompt, 0) + 1
        if counts[sample.prompt] <= images:
            kept.append(i)
    return kept


def _packed(pictures: Sequence[Pixels]) -> tuple[Pixels, int]:
    """(a nearly square sheet, its number of columns).

    A side of a WebP is at most 16383 pixels.
    """
    across = math.ceil(math.sqrt(len(pictures)))
    blank = np.zeros_like(pictures[0])
    padded = [*pictures, *[blank] * (-len(pictures) % across)]
    rows = [np.hstack(padded[i : i + across]) for i in range(0, len(padded), across)]
    return np.vstack(rows), across

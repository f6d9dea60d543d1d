"""An evaluation as one self-contained HTML page: means, scatter plot and pictures."""

import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from personax.core.files import write_text
from personax.core.images import Pixels
from personax.evaluation.config import ReportConfig
from personax.evaluation.means import GROUPS, Row, formatted, notes, titled
from personax.evaluation.page import (
    data_uri,
    fill,
    pictures_of,
    reduced,
    tiles,
    uri,
)
from personax.evaluation.results import Column, EvalResult


def write_report(
    path: pathlib.Path,
    results: Sequence[EvalResult],
    columns: Sequence[Column],
    *,
    rows: Sequence[Row],
    out: pathlib.Path,
    config: ReportConfig,
    references: Mapping[str, Sequence[Pixels]] = {},
    scatter: pathlib.Path | None = None,
) -> None:
    """Write one HTML file that requests nothing from the network.

    Its table can be sorted, and filtered by method; its pictures can be filtered by
    method and subject. `rows` are the results' means, `scatter` a PNG file, `out` the
    folder of the results' sheets and `references` the training pictures of each
    subject. The first `config.images` of each prompt are shown; small ones are embedded
    without loss unless `config.lossless` is False.

    Raises ValueError without a result and for a sheet that is too small, and
    FileNotFoundError for a missing sheet.
    """
    if not results:
        raise ValueError("A report requires at least one result.")
    prompts = list(dict.fromkeys(s.prompt for each in results for s in each.samples))
    index = {text: i for i, text in enumerate(prompts)}
    embedded = [
        _embedded(result, f"sheet-{number}", out, config, index)
        for number, result in enumerate(results)
    ]
    records, rules = zip(*embedded, strict=True)
    subjects = dict.fromkeys(result.subject for result in results)
    data = {
        "columns": [
            {"key": each.key, "title": titled(each), "better": each.better}
            for each in columns
        ],
        "groups": GROUPS,
        "rows": [_row(row, columns) for row in rows],
        "notes": " ".join([*notes(rows), "Best in bold, second underlined."]),
        "scatter": None if scatter is None else uri("png", scatter.read_bytes()),
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
    title, sheets = config.title or "Evaluation", "\n".join(rules)
    write_text(path, fill("report", title, data, scripts, sheets=sheets))


def _row(row: Row, columns: Sequence[Column]) -> dict[str, Any]:
    """A row of the table for report_table.js."""
    return {
        "method": row.method,
        "group": row.group,
        "unranked": row.unranked,
        "means": {
            column.key: {
                "value": mean.value,
                "text": formatted(column, mean.value),
                "error": None if mean.error is None else formatted(column, mean.error),
                "rank": mean.rank,
                "subjects": None if mean.complete else mean.subjects,
            }
            for column in columns
            if (mean := row.means.get(column.key)) is not None
        },
    }


def _embedded(
    result: EvalResult,
    name: str,
    out: pathlib.Path,
    config: ReportConfig,
    prompts: Mapping[str, int],
) -> tuple[dict[str, Any], str]:
    """A result for report_pictures.js, and the CSS rule with its pictures."""
    pairs = zip(tiles(out, result), result.samples, strict=True)
    kept = [(reduced(x), sample) for x, sample in pairs if sample.index < config.images]
    record = {
        "method": result.method,
        "subject": result.subject,
        "kind": result.kind,
        "samples": [[prompts[s.prompt], s.seed, s.index] for _, s in kept],
        "sheet": name,
    }
    if not kept:
        return record, ""
    pictures = [x for x, _ in kept]
    sheet, across = _packed(pictures)
    height, width = pictures[0].shape[:2]
    exact = min(width, height) <= 64
    url = data_uri(sheet, lossless=exact and config.lossless)
    down = sheet.shape[0] // height
    record |= {"across": across, "down": down, "tile": [width, height], "exact": exact}
    return record, f'.{name} {{ background-image: url("{url}") }}'


def _packed(pictures: Sequence[Pixels]) -> tuple[Pixels, int]:
    """(a nearly square sheet, its number of columns).

    A side of a WebP is at most 16383 pixels.
    """
    across = math.ceil(math.sqrt(len(pictures)))
    blank = np.zeros_like(pictures[0])
    padded = [*pictures, *[blank] * (-len(pictures) % across)]
    rows = [np.hstack(padded[i : i + across]) for i in range(0, len(padded), across)]
    return np.vstack(rows), across

"""The files of an evaluation: tables, scatter plot, report page and references."""

import pathlib
from collections.abc import Sequence

from personax.core import images
from personax.core.files import write_text
from personax.data import concepts
from personax.evaluation.config import BASE, RENDERS
from personax.evaluation.means import means
from personax.evaluation.metric_registry import COLUMNS
from personax.evaluation.protocol import Protocol
from personax.evaluation.report import write_report
from personax.evaluation.results import COSTS, EvalResult
from personax.evaluation.scatter import write_scatter
from personax.evaluation.tables import to_csv, to_latex, to_markdown

_SCATTER = ("clip_t", "clip_i")  # alignment with the prompt and with the subject
# What an evaluation writes under names that a folder of somebody else's may have.
WRITTEN = (
    *("references", "report.html", "scatter.png"),
    *("table.csv", "table.md", "table.tex"),
)
_UNRANKED = (BASE, RENDERS)


def write_outputs(
    protocol: Protocol, results: Sequence[EvalResult], out: pathlib.Path
) -> None:
    """Write table.csv, table.md, table.tex, scatter.png, report.html and references.

    Columns without a value are left out; table.tex has those of `report.printed` only.
    """
    report = protocol.config.report
    keys = {key for result in results for key in result.metrics} | COSTS.keys()
    columns = [column for column in COLUMNS if column.key in keys]
    printed = [
        column
        for column in columns
        if not report.printed or column.key in report.printed
    ]
    rows = means(results, columns, unranked=_UNRANKED)
    write_text(out / "table.csv", to_csv(rows, columns))
    write_text(out / "table.md", to_markdown(rows, columns))
    write_text(out / "table.tex", to_latex(rows, printed))
    scatter = None
    if keys.issuperset(_SCATTER):
        scatter = out / "scatter.png"
        x, y = (next(c for c in columns if c.key == key) for key in _SCATTER)
        write_scatter(scatter, rows, x, y)
    write_report(
        out / "report.html",
        results,
        columns,
        rows=rows,
        out=out,
        config=report,
        references=write_references(protocol, out),
        scatter=scatter,
    )


def write_references(
    protocol: Protocol, out: pathlib.Path
) -> dict[str, list[images.Pixels]]:
    """Write every subject's training pictures and return them by subject.

    The preference study shows them as well. Pictures of an earlier evaluation that had
    more are removed.
    """
    references = {}
    for task in protocol.singles + protocol.pairs:
        for subject in task.subjects:
            pictures = concepts.pictures(subject.images)
            references[subject.name] = pictures
            folder = out / "references" / subject.name
            for i, pixels in enumerate(pictures):
                images.write_png(folder / f"{i:02}.png", pixels)
            for path in folder.glob("*.png"):
                if path.stem.isdigit() and int(path.stem) >= len(pictures):
                    path.unlink()
    return references

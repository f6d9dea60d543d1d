"""The methods' means as files: CSV to compute with, Markdown and LaTeX to print."""

import csv
import io
from collections.abc import Collection, Iterable, Mapping, Sequence

from personax.evaluation.means import GROUPS, Mean, Row, arrow, means, shown
from personax.evaluation.results import Cell, Column

NONE = "–"  # what stands for a value that was not measured


def to_csv(
    cells: Iterable[Cell], columns: Sequence[Column], *, apart: Collection[str] = ()
) -> str:
    """A header and one line per method; every mean in full and unrounded.

    KEY is a mean, KEY_error its standard error, KEY_subjects how many it is over; a
    field is empty where there is nothing.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    keys = [column.key for column in columns]
    parts = [f"{key}{end}" for key in keys for end in ("", "_error", "_subjects")]
    writer.writerow(["method", "group", "subjects", *parts])
    for row in means(cells, columns, apart=apart):
        found = [row.means.get(key) for key in keys]
        fields = [
            field
            for mean in found
            for field in (mean[:3] if mean else (None, None, None))
        ]
        writer.writerow([row.method, row.group, row.subjects, *fields])
    return file.getvalue()


def to_markdown(
    cells: Iterable[Cell], columns: Sequence[Column], *, apart: Collection[str] = ()
) -> str:
    """One GitHub table per group: mean ± standard error, the best bold.

    A mean over fewer subjects than others is marked † and has no rank.
    """
    groups = _groups(means(cells, columns, apart=apart))
    titles = [f"{_in_markdown(each.title)} {arrow(each)}".rstrip() for each in columns]
    head = ["Method", "Subjects", *titles]
    tables = [
        "\n".join(
            [
                *([f"**{GROUPS[group]}**\n"] if len(groups) > 1 else []),
                _line(head),
                _line(["---", *["---:"] * (len(head) - 1)]),
                *(_line(_markdown_row(row, columns)) for row in rows),
            ]
        )
        for group, rows in groups.items()
    ]
    return "\n\n".join([*tables, *_notes(groups)]) + "\n"


def to_latex(
    cells: Iterable[Cell], columns: Sequence[Column], *, apart: Collection[str] = ()
) -> str:
    r"""A tabular for \usepackage{booktabs}: best bold, second underlined, as in papers.

    A mean over fewer subjects than others is marked with a dagger and has no rank.
    """
    groups = _groups(means(cells, columns, apart=apart))
    titles = [
        f"{escaped(each.title)} {_ARROWS[arrow(each)]}".rstrip() for each in columns
    ]
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        _latex_line(["Method", *titles]),
    ]
    for group, rows in groups.items():
        lines.append("\\midrule")
        if len(groups) > 1:
            span = f"\\multicolumn{{{len(columns) + 1}}}{{l}}"
            lines.append(f"{span}{{\\emph{{{GROUPS[group]}}}}} \\\\")
        for row in rows:
            fields = [_in_latex(each, row.means.get(each.key)) for each in columns]
            name = escaped(row.method)
            name = f"\\emph{{{name}}}" if row.apart else name
            lines.append(_latex_line([name, *fields]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def escaped(text: str) -> str:
    """`text` as LaTeX prints it."""
    return "".join(_LATEX.get(letter, letter) for letter in text)


_LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
    **{"\\": "\\textbackslash{}", "<": "\\textless{}", ">": "\\textgreater{}"},
}


_ARROWS = {"↑": "$\\uparrow$", "↓": "$\\downarrow$", "": ""}


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {
        group: own
        for group in GROUPS
        if (own := [row for row in rows if row.group == group])
    }


def _markdown_row(row: Row, columns: Sequence[Column]) -> list[str]:
    fields = []
    for column in columns:
        mean = row.means.get(column.key)
        text = _value(column, mean)
        text = f"**{text}**" if mean and mean.rank == 1 else text
        fields.append(text + _dagger(mean, "†") + _plus_minus(column, mean, " ± "))
    name = _in_markdown(row.method)
    return [f"*{name}*" if row.apart else name, str(row.subjects), *fields]


def _in_latex(column: Column, mean: Mean | None) -> str:
    text = "--" if mean is None else _value(column, mean)
    if mean and mean.rank:
        text = f"\\{'textbf' if mean.rank == 1 else 'underline'}{{{text}}}"
    error = _plus_minus(column, mean, "")
    error = f" {{\\scriptsize $\\pm$ {error}}}" if error else ""
    return text + _dagger(mean, "$^\\dagger$") + error


def _value(column: Column, mean: Mean | None) -> str:
    return NONE if mean is None else shown(column, mean.value)


def _plus_minus(column: Column, mean: Mean | None, sign: str) -> str:
    if mean is None or mean.error is None:
        return ""
    return sign + shown(column, mean.error)


def _dagger(mean: Mean | None, mark: str) -> str:
    return "" if mean is None or mean.whole else mark


def _notes(groups: Mapping[str, list[Row]]) -> list[str]:
    rows = [row for own in groups.values() for row in own]
    found = [mean for row in rows for mean in row.means.values()]
    said = []
    if any(mean.error is not None for mean in found):
        said.append(
            "Means over subjects ± standard error, which is that of the pictures: "
            "sqrt(sum e²) / n of the n subjects' own errors e."
        )
    if not all(mean.whole for mean in found):
        said.append("† is over fewer subjects than others, and not ranked.")
    if any(row.apart for row in rows):
        said.append("Rows in italics are a floor or a ceiling, and not ranked.")
    return [" ".join(said)] if said else []


def _in_markdown(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\|*_<`[" else letter for letter in text)


def _line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _latex_line(fields: Sequence[str]) -> str:
    return f"{' & '.join(fields)} \\\\"

"""Tables of means: CSV to compute with, Markdown and LaTeX to print."""

import csv
import io
from collections.abc import Sequence

from personax.evaluation.means import GROUPS, Mean, Row, arrow, formatted, notes, titled
from personax.evaluation.results import Column

NONE = "–"  # for a value that was not measured


def to_csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """A header and one line per row, with unrounded means.

    KEY is a mean, KEY_error its standard error, KEY_subjects its number of subjects;
    missing values are empty.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    keys = [column.key for column in columns]
    parts = [f"{key}{end}" for key in keys for end in ("", "_error", "_subjects")]
    writer.writerow(["method", "group", "subjects", *parts])
    for row in rows:
        fields = []
        for key in keys:
            mean = row.means.get(key)
            fields += mean[:3] if mean else (None, None, None)
        writer.writerow([row.method, row.group, row.subjects, *fields])
    return file.getvalue()


def to_markdown(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """One GitHub table per group: mean ± standard error, the best in bold.

    A mean over fewer subjects than others is marked † and has no rank.
    """
    groups = _groups(rows)
    head = ["Method", "Subjects", *(_escape_markdown(titled(c)) for c in columns)]
    tables = [
        "\n".join(
            [
                *([f"**{GROUPS[group]}**\n"] if len(groups) > 1 else []),
                _markdown_line(head),
                _markdown_line(["---", *["---:"] * (len(head) - 1)]),
                *(_markdown_line(_markdown_fields(row, columns)) for row in own),
            ]
        )
        for group, own in groups.items()
    ]
    sentences = notes(rows)
    return "\n\n".join([*tables, *([" ".join(sentences)] if sentences else [])]) + "\n"


def to_latex(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    r"""A tabular for \usepackage{booktabs}, the best in bold, the second underlined.

    A mean over fewer subjects than others is marked with a dagger and has no rank.
    """
    groups = _groups(rows)
    titles = [
        f"{_escape_latex(each.title)} {_ARROWS[arrow(each)]}".rstrip()
        for each in columns
    ]
    lines = [
        f"\\begin{{tabular}}{{l{'r' * len(columns)}}}",
        "\\toprule",
        _latex_line(["Method", *titles]),
    ]
    for group, own in groups.items():
        lines.append("\\midrule")
        if len(groups) > 1:
            span = f"\\multicolumn{{{len(columns) + 1}}}{{l}}"
            lines.append(f"{span}{{\\emph{{{GROUPS[group]}}}}} \\\\")
        for row in own:
            fields = [_latex_field(each, row.means.get(each.key)) for each in columns]
            name = _escape_latex(row.method)
            name = f"\\emph{{{name}}}" if row.unranked else name
            lines.append(_latex_line([name, *fields]))
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


def _escape_latex(text: str) -> str:
    """`text` with LaTeX's special characters escaped."""
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


def _markdown_fields(row: Row, columns: Sequence[Column]) -> list[str]:
    fields = []
    for column in columns:
        mean = row.means.get(column.key)
        text = _value(column, mean)
        text = f"**{text}**" if mean and mean.rank == 1 else text
        fields.append(text + _dagger(mean, "†") + _error(column, mean, " ± "))
    name = _escape_markdown(row.method)
    return [f"*{name}*" if row.unranked else name, str(row.subjects), *fields]


def _latex_field(column: Column, mean: Mean | None) -> str:
    text = "--" if mean is None else _value(column, mean)
    if mean and mean.rank:
        text = f"\\{'textbf' if mean.rank == 1 else 'underline'}{{{text}}}"
    error = _error(column, mean, "")
    error = f" {{\\scriptsize $\\pm$ {error}}}" if error else ""
    return text + _dagger(mean, "$^\\dagger$") + error


def _value(column: Column, mean: Mean | None) -> str:
    return NONE if mean is None else formatted(column, mean.value)


def _error(column: Column, mean: Mean | None, sign: str) -> str:
    if mean is None or mean.error is None:
        return ""
    return sign + formatted(column, mean.error)


def _dagger(mean: Mean | None, mark: str) -> str:
    return "" if mean is None or mean.complete else mark


def _escape_markdown(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\|*_<`[" else letter for letter in text)


def _markdown_line(fields: Sequence[str]) -> str:
    return f"| {' | '.join(fields)} |"


def _latex_line(fields: Sequence[str]) -> str:
    return f"{' & '.join(fields)} \\\\"

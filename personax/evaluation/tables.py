"""Tables of means: CSV to compute with, Markdown and LaTeX to print."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from personax.evaluation.means import GROUPS, Row, arrow, formatted, notes, titled
from personax.evaluation.results import Column


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
    style = _Style("–", {1: "**{}**"}, "†", " ± {}")
    groups = _groups(rows)
    head = ["Method", "Subjects", *(titled(c).translate(_MARKDOWN) for c in columns)]
    parts = []
    for group, own in groups.items():
        lines = [head, ["---", *["---:"] * (len(head) - 1)]]
        for row in own:
            name = row.method.translate(_MARKDOWN)
            name = f"*{name}*" if row.unranked else name
            lines.append([name, str(row.subjects), *_fields(row, columns, style)])
        parts += [f"**{GROUPS[group]}**"] if len(groups) > 1 else []
        parts.append("\n".join(f"| {' | '.join(fields)} |" for fields in lines))
    sentences = notes(rows)
    return "\n\n".join([*parts, *([" ".join(sentences)] if sentences else [])]) + "\n"


def to_latex(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    r"""A tabular for \usepackage{booktabs}, the best in bold, the second underlined.

    A mean over fewer subjects than others is marked with a dagger and has no rank.
    """
    ranks = {1: "\\textbf{{{}}}", 2: "\\underline{{{}}}"}
    style = _Style("--", ranks, "$^\\dagger$", " {{\\scriptsize $\\pm$ {}}}")
    groups = _groups(rows)
    titles = [
        f"{each.title.translate(_LATEX)} {_ARROWS[arrow(each)]}".rstrip()
        for each in columns
    ]
    head = f"\\begin{{tabular}}{{l{'r' * len(columns)}}}"
    lines = [head, "\\toprule", " & ".join(["Method", *titles]) + " \\\\"]
    for group, own in groups.items():
        lines.append("\\midrule")
        if len(groups) > 1:
            span = f"\\multicolumn{{{len(columns) + 1}}}{{l}}"
            lines.append(f"{span}{{\\emph{{{GROUPS[group]}}}}} \\\\")
        for row in own:
            name = row.method.translate(_LATEX)
            name = f"\\emph{{{name}}}" if row.unranked else name
            fields = [name, *_fields(row, columns, style)]
            lines.append(" & ".join(fields) + " \\\\")
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}"]) + "\n"


class _Style(NamedTuple):
    """How a format writes the fields of a table."""

    missing: str
    ranks: Mapping[int, str]  # formats of the values of these ranks
    partial: str  # mark of a mean over fewer subjects
    error: str


def _fields(row: Row, columns: Sequence[Column], style: _Style) -> list[str]:
    fields = []
    for column in columns:
        mean = row.means.get(column.key)
        if mean is None:
            fields.append(style.missing)
            continue
        text = style.ranks.get(mean.rank, "{}").format(formatted(column, mean.value))
        text += "" if mean.complete else style.partial
        if mean.error is not None:
            text += style.error.format(formatted(column, mean.error))
        fields.append(text)
    return fields


_LATEX = str.maketrans(
    {
        **{letter: f"\\{letter}" for letter in "&%$#_{}"},
        **{"~": "\\textasciitilde{}", "^": "\\textasciicircum{}"},
        **{"\\": "\\textbackslash{}", "<": "\\textless{}", ">": "\\textgreater{}"},
    }
)
_MARKDOWN = str.maketrans({letter: f"\\{letter}" for letter in "\\|*_<`["})
_ARROWS = {"↑": "$\\uparrow$", "↓": "$\\downarrow$", "": ""}


def _groups(rows: Sequence[Row]) -> dict[str, list[Row]]:
    return {
        group: own
        for group in GROUPS
        if (own := [row for row in rows if row.group == group])
    }

"""Means over subjects, and the tables and the scatter plot of them."""

import csv
import io
import math

import numpy as np
import pytest
from PIL import Image

from personax.evaluation.means import formatted, means
from personax.evaluation.results import Column, EvalResult, Measurement
from personax.evaluation.scatter import write_scatter
from personax.evaluation.tables import to_csv, to_latex, to_markdown

COLUMNS = [
    Column("clip_t", "CLIP-T"),
    Column("fid", "FID", "lower", 1),
    Column("size", "Size", "lower"),
]


def cell(method, subject, size=2048, kind="live", **metrics):
    found = {
        key: Measurement(*value, 8)
        if isinstance(value, tuple)
        else Measurement(value, 0.1, 8)
        for key, value in metrics.items()
    }
    return EvalResult(method, subject, kind, "f", 10, size, 1.5, found)


CELLS = [
    cell("lora", "dog", clip_t=(0.25, 0.03), fid=(1200.0, 3.0)),
    cell("lora", "cat", clip_t=(0.28, 0.04), fid=(1100.0, 4.0)),
    cell("50%_off", "dog", 1024, clip_t=(0.2, 0.03), fid=(900.0, None)),
    cell("50%_off", "cat", 1024, clip_t=(0.3, 0.04), fid=(1000.0, 1.0)),
]


def ranks(cells, key="x", unranked=(), **column):
    rows = means(cells, [Column(key, key, **column)], unranked=unranked)
    return {row.method: row.means[key].rank for row in rows}


def test_the_error_of_a_mean_is_how_far_other_pictures_would_move_it():
    errors = [0.02, 0.05, 0.01]
    cells = [cell("a", str(i), x=(0.5 + i, error)) for i, error in enumerate(errors)]
    (row,) = means(cells, [Column("x", "X")])
    drawn = np.random.default_rng(0).normal(0, errors, (200_000, 3)).mean(axis=1)
    assert row.means["x"].value == pytest.approx(1.5)
    assert row.means["x"].error == pytest.approx(drawn.std(), rel=0.01)


def test_one_unknown_error_leaves_the_means_unknown():
    lora, off = means(CELLS, COLUMNS)
    assert lora.means["fid"].error == 2.5
    assert off.means["fid"][:3] == (950.0, None, 2)
    assert lora.means["size"].error is None


def test_numbers_that_are_formatted_equally_share_a_rank():
    values = {"a": 0.91249, "b": 0.9119, "c": 0.8, "d": 0.7}
    cells = [cell(name, "dog", x=value) for name, value in values.items()]
    assert ranks(cells) == {"a": 1, "b": 1, "c": 2, "d": 0}
    assert ranks(cells, better="lower") == {"a": 0, "b": 0, "c": 2, "d": 1}
    assert set(ranks(cells, better="").values()) == {0}
    assert set(ranks(cells[:2]).values()) == {0}


def test_a_mean_over_fewer_subjects_is_not_ranked():
    cells = [cell(name, s, x=0.5) for name in "ab" for s in ("dog", "cat")]
    cells += [cell("c", "dog", x=0.6), cell("d", "dog", x=0.9), cell("d", "cat")]
    cells += [cell("e", "dog", x=0.4), cell("e", "cat", x=0.4)]
    found = {row.method: row for row in means(cells, [Column("x", "X")])}
    assert [name for name, row in found.items() if row.means["x"].complete] == list(
        "abe"
    )
    assert ranks(cells) == {"a": 1, "b": 1, "c": 0, "d": 0, "e": 2}
    assert found["d"].subjects == 2
    assert found["d"].means["x"].subjects == 1


def test_unranked_methods_do_not_affect_the_ranks():
    cells = [cell("base", s, x=1.0) for s in ("dog", "cat", "fox")]
    cells += [cell(name, s, x=v) for name, v in (("a", 0.5), ("b", 0.6)) for s in "mn"]
    assert ranks(cells, unranked=("base",)) == {"base": 0, "a": 2, "b": 1}


def test_pairs_of_subjects_are_compared_among_themselves():
    cells = [cell("a", "dog", x=0.9), cell("b", "dog", x=0.8)]
    cells += [cell(m, "dog+cat", kind="pair", x=x) for m, x in (("a", 0.1), ("b", 0.2))]
    rows = means(cells, [Column("x", "X")])
    found = [(row.group, row.method, row.means["x"].rank) for row in rows]
    assert found == [
        ("single", "a", 1),
        ("single", "b", 2),
        ("pair", "a", 2),
        ("pair", "b", 1),
    ]


@pytest.mark.parametrize(
    ("key", "digits", "value", "text"),
    [
        ("x", 3, 0.8125, "0.813"),  # exactly half, which format() rounds to even
        ("x", 2, -0.125, "-0.13"),
        ("numbers", 0, 1234567, "1,234,567"),
        ("size", 3, 740, "740 B"),
        ("size", 3, 12_250, "12.3 kB"),
        ("size", 3, 3.3e9, "3.30 GB"),
    ],
)
def test_numbers_are_rounded_half_up(key, digits, value, text):
    assert formatted(Column(key, "", digits=digits), value) == text


def test_csv_has_the_means_in_full():
    rows = list(csv.DictReader(io.StringIO(to_csv(means(CELLS, COLUMNS), COLUMNS))))
    assert [row["method"] for row in rows] == ["lora", "50%_off"]
    assert float(rows[0]["clip_t"]) == (0.25 + 0.28) / 2
    assert float(rows[0]["clip_t_error"]) == math.sqrt(0.03**2 + 0.04**2) / 2
    assert rows[1]["fid_error"] == ""
    assert rows[1]["fid_subjects"] == "2"


def test_csv_leaves_what_was_not_measured_empty():
    (row,) = csv.DictReader(
        io.StringIO(to_csv(means([cell("a", "dog")], COLUMNS), COLUMNS))
    )
    assert row["clip_t"] == row["clip_t_error"] == row["clip_t_subjects"] == ""


def test_markdown_has_errors_and_the_best_in_bold():
    table, note = to_markdown(means(CELLS, COLUMNS), COLUMNS).split("\n\n")
    assert table.splitlines() == [
        "| Method | Subjects | CLIP-T ↑ | FID ↓ | Size ↓ |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| lora | 2 | **0.265** ± 0.025 | 1,150.0 ± 2.5 | 2.05 kB |",
        "| 50%\\_off | 2 | 0.250 ± 0.025 | **950.0** | **1.02 kB** |",
    ]
    assert "±" in note


def test_markdown_marks_missing_partial_and_unranked():
    cells = [*CELLS, cell("base", "dog", clip_t=0.3), cell("neti", "dog", fid=1.0)]
    text = to_markdown(means(cells, COLUMNS, unranked=("base",)), COLUMNS)
    assert "| *base* | 1 | 0.300† ± 0.100 | – | 2.05 kB† |" in text
    assert "| neti | 1 | – | 1.0† ± 0.1 |" in text
    assert "† is over fewer subjects" in text
    assert "italics" in text


def test_latex_is_a_booktabs_table_with_names_escaped():
    assert to_latex(means(CELLS, COLUMNS), COLUMNS).splitlines() == [
        r"\begin{tabular}{lrrr}",
        r"\toprule",
        r"Method & CLIP-T $\uparrow$ & FID $\downarrow$ & Size $\downarrow$ \\",
        r"\midrule",
        r"lora & \textbf{0.265} {\scriptsize $\pm$ 0.025} & \underline{1,150.0} "
        r"{\scriptsize $\pm$ 2.5} & \underline{2.05 kB} \\",
        r"50\%\_off & \underline{0.250} {\scriptsize $\pm$ 0.025} & \textbf{950.0} & "
        r"\textbf{1.02 kB} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_latex_separates_pairs_and_unranked_rows():
    pair = cell("lora", "dog+cat", kind="pair", clip_t=0.5)
    text = to_latex(means([*CELLS, pair], COLUMNS, unranked=("lora",)), COLUMNS)
    single, several = text.split(r"\midrule")[1:]
    assert r"\multicolumn{4}{l}{\emph{One subject}} \\" in single
    assert r"\emph{lora} & 0.265" in single
    assert r"\emph{lora} & 0.500 {\scriptsize $\pm$ 0.100} & -- & 2.05 kB \\" in several


def test_labels_of_the_scatter_do_not_cover_each_other(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    drawn, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda own, *args: (drawn.append(own), save(own, *args))
    )
    # Three crowds, in which the first place would do for none but one.
    rng = np.random.default_rng(1)
    spots = np.repeat([[0.1, 0.1], [0.2, 0.25], [0.3, 0.15]], [3, 4, 3], axis=0)
    cells = [
        cell(f"method_{i}", "dog", a=(x, 0.01), b=(y, 0.01))
        for i, (x, y) in enumerate(spots + rng.normal(0, 0.005, (10, 2)))
    ]
    columns = Column("a", "A"), Column("b", "B", "lower")
    write_scatter(tmp_path / "new" / "s.png", means(cells, columns), *columns)
    with Image.open(tmp_path / "new" / "s.png") as image:
        assert image.format == "PNG"
    (axes,) = drawn[0].axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("A ↑", "B ↓")
    boxes = [text.get_window_extent() for text in axes.texts]
    assert len(boxes) == 10
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    assert not any(a.overlaps(b) for a, b in pairs)


def test_a_scatter_without_a_point_is_refused(tmp_path):
    columns = Column("a", "A"), Column("b", "B")
    rows = means([cell("m", "dog", a=1.0)], columns)
    with pytest.raises(ValueError, match="No method has both A and B"):
        write_scatter(tmp_path / "s.png", rows, *columns)

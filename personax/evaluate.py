"""The command that compares methods: `python -m personax.evaluate --config FILE`."""

import pathlib
from collections.abc import Collection, Sequence

from absl import flags
from ml_collections import ConfigDict, config_flags

from personax.cli import command
from personax.concepts.bind import from_base
from personax.core import images
from personax.data import concepts
from personax.evaluation.draw import make_draw
from personax.evaluation.means import means
from personax.evaluation.metric_registry import COLUMNS, make_judges
from personax.evaluation.protocol import BASE, RENDERS, Protocol, read_protocol
from personax.evaluation.report import write_report
from personax.evaluation.results import Cell
from personax.evaluation.runner import Bench, evaluate, rows_of
from personax.evaluation.scatter import write_scatter
from personax.evaluation.tables import to_csv, to_latex, to_markdown
from personax.loading import load_base
from personax.training.workdir import write

_SCATTER = ("clip_t", "clip_i")  # alignment and fidelity


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    config_flags.DEFINE_config_file(
        "config", None, "Such as configs/evaluate/emoji.py; see configs/evaluate."
    )
    flags.DEFINE_string("workdir", None, "Default: runs/evaluate/NAME of the config.")
    flags.DEFINE_list(
        "rows",
        (),
        "Do these alone, and show what the workdir has of others: several commands can "
        "share a workdir, each with rows of its own, a pair's with the one it is of.",
    )
    flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
    command.start()
    watch, config = command.Stopwatch(), flags.FLAGS.config
    name = command.config_name(config_flags.get_config_filename(flags.FLAGS["config"]))
    out = pathlib.Path(flags.FLAGS.workdir or f"runs/evaluate/{name}")
    with watch("load"), command.exit_on_user_error():
        bench = open_bench(config, out, flags.FLAGS.rows)
    with watch("evaluate"):
        found = evaluate(bench)
    with watch("report"):
        write_all(bench.protocol, found, out)
    print((out / "table.md").read_text())
    print(f"{len(found)} cells, report in {out}/report.html: {watch}")


def open_bench(
    config: ConfigDict, out: pathlib.Path, only: Collection[str] = ()
) -> Bench:
    """The bench of a config, all of it checked that can be before any compute.

    `only` are the rows to be done, where not all of them are.

    Raises ValueError, TypeError or FileNotFoundError in one sentence.
    """
    protocol = read_protocol(config)
    unknown = {*config.report.printed} - {column.key for column in COLUMNS}
    if unknown:
        keys = ", ".join(column.key for column in COLUMNS)
        raise ValueError(f"No column {min(unknown)!r} is printed; there are {keys}.")
    rows = rows_of(protocol)
    for name in only:
        if name not in rows:
            raise ValueError(f"There is no row {name!r}; there are {', '.join(rows)}.")
    options = {name: value for name, value in config.loading.items() if value}
    base = load_base(config.base, **options)
    plain = from_base(base)
    draw = make_draw(base, config.draw)
    judges = make_judges(config, base, plain)
    out.mkdir(parents=True, exist_ok=True)
    return Bench(protocol, base, plain, draw, judges, out, tuple(only))


def write_all(protocol: Protocol, found: Sequence[Cell], out: pathlib.Path) -> None:
    """The cells as table.csv, table.md, table.tex, scatter.png and report.html.

    Columns that no cell fills are left out, and of table.tex those that are not among
    `report.printed`.
    """
    filled = {key for cell in found for key in cell.metrics}
    columns = [
        column
        for column in COLUMNS
        if column.key in filled or column.key in ("numbers", "size", "seconds")
    ]
    apart = (BASE, RENDERS)
    printed = protocol.config.report.printed
    narrow = [column for column in columns if not printed or column.key in printed]
    write(out / "table.csv", to_csv(found, columns, apart=apart))
    write(out / "table.md", to_markdown(found, columns, apart=apart))
    write(out / "table.tex", to_latex(found, narrow, apart=apart))
    scatter = _SCATTER if filled.issuperset(_SCATTER) else None
    if scatter:
        across, up = (next(c for c in columns if c.key == key) for key in scatter)
        write_scatter(out / "scatter.png", means(found, columns), across, up)
    write_report(
        out / "report.html",
        found,
        columns,
        out=out,
        title=protocol.config.report.title or "Evaluation",
        references=write_references(protocol, out),
        images=protocol.config.report.images,
        lossless=protocol.config.report.lossless,
        scatter=scatter,
        apart=apart,
    )


def write_references(
    protocol: Protocol, out: pathlib.Path
) -> dict[str, list[images.Pixels]]:
    """{subject: the pictures that it is taught with}, which a study shows, too."""
    found = {}
    for question in protocol.singles + protocol.pairs:
        for subject in question.subjects:
            found[subject.name] = concepts.pictures(subject.images)
            for i, pixels in enumerate(found[subject.name]):
                path = out / "references" / subject.name / f"{i:02}.png"
                images.write_png(path, pixels)
    return found


if __name__ == "__main__":
    define_flags()
    command.run(main)

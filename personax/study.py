"""The preference study: `python -m personax.study build RUN`, and `score VOTES…`."""

import csv
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags

from personax.cli import command
from personax.core.images import Pixels, read_images
from personax.evaluation import preference_study, results
from personax.evaluation.preference_study import Rate

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    text = flags.DEFINE_string
    text("methods", "", "build: the methods to compare, such as lora,infusion.")
    text("out", "study.html", "build: the page; its key stands beside it, as .json.")
    text("references", None, "build: a folder per subject. Default: RUN/references.")
    flags.DEFINE_integer("questions", 40, "build: how many, over all pairs and kinds.")
    flags.DEFINE_integer("seed", 0, "Of order and sides, and of the bootstrap.")
    text("study", None, "score: the key that build wrote.")
    text("csv", None, "score: a file for the table.")
    text("json", None, "score: a file for the table and what it is of.")


def main(argv: Sequence[str]) -> None:
    command.start()
    with command.exit_on_user_error():
        if argv[1:2] == ["build"] and len(argv) == 3:
            _build(pathlib.Path(argv[2]))
        elif argv[1:2] == ["score"] and len(argv) > 2:
            _score([pathlib.Path(each) for each in argv[2:]])
        else:
            raise ValueError(
                "Either personax.study build RUN --methods A,B --out study.html, or "
                "personax.study score VOTES.json … --study study.json."
            )


def _build(run: pathlib.Path) -> None:
    found = results.read(run / "cells.jsonl")
    if not found:
        raise FileNotFoundError(
            f"{run} holds no evaluation: it has no cells.jsonl, or an empty one."
        )
    folder = pathlib.Path(FLAGS.references or run / "references")
    page = pathlib.Path(FLAGS.out)
    if page.suffix == ".json":
        raise ValueError(f"--out {page} is the page, and its key is called .json.")
    key = preference_study.build(
        page,
        list(found.values()),
        out=run,
        methods=command.listed(FLAGS.methods),
        references=_references(folder),
        questions=FLAGS.questions,
        seed=FLAGS.seed,
    )
    print(f"page for the voters in {page}, its key, which they must not see, in {key}.")


def _references(folder: pathlib.Path) -> dict[str, Sequence[Pixels]]:
    """{subject: the pictures in the folder of its name}."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder} with the references.")
    return {
        each.name: list(read_images(each).values())
        for each in sorted(folder.iterdir())
        if each.is_dir()
    }


def _score(paths: Sequence[pathlib.Path]) -> None:
    if not FLAGS.study:
        raise ValueError("Say which study was voted on: --study study.json.")
    key = preference_study.read_key(pathlib.Path(FLAGS.study))
    ballots = preference_study.read_ballots(paths, key)
    rates = preference_study.score(key, ballots, seed=FLAGS.seed)
    votes, asked = sum(len(each.choices) for each in ballots), len(key["questions"])
    rows = [_row(rate) for rate in rates]
    print(_table(rows))
    over_voters = ", and a bootstrap's over voters" if len(ballots) > 1 else ""
    print(
        f"{votes} votes of {asked * len(ballots)}, voters: {len(ballots)}. A tie is "
        f"half a win. Intervals are of 95 %: Wilson's over votes{over_voters}."
    )
    if FLAGS.csv:
        _write_csv(pathlib.Path(FLAGS.csv), rows)
    if FLAGS.json:
        about = {"study": key["study"], "voters": len(ballots), "votes": votes}
        said = about | {"ties": "half a win", "level": 0.95, "rates": rows}
        path = pathlib.Path(FLAGS.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(said, indent=2) + "\n")


def _row(rate: Rate) -> dict[str, Any]:
    """A rate as the files have it; what there is none of is None."""
    ends = dict(zip(("low", "high"), rate.interval, strict=True))
    over = rate.by_voter or (None, None)
    voters = dict(zip(("voters_low", "voters_high"), over, strict=True))
    kept = {
        k: v for k, v in rate._asdict().items() if k not in ("interval", "by_voter")
    }
    return kept | ends | voters


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A head and a line for each rate, in percent."""
    lines = [["better by", "method", "against", "wins", "ties", "losses"]]
    lines[0] += ["win rate", "95 %", *(["95 %, voters"] if _several(rows) else [])]
    for row in rows:
        counts = [str(row[name]) for name in ("wins", "ties", "losses")]
        line = [row["kind"], row["method"], row["against"], *counts]
        line += [f"{100 * row['rate']:.1f} %", _ends(row["low"], row["high"])]
        if _several(rows):
            line.append(_ends(row["voters_low"], row["voters_high"]))
        lines.append(line)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            text.ljust(width) for text, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def _several(rows: Sequence[Mapping[str, Any]]) -> bool:
    return any(row["voters_low"] is not None for row in rows)


def _ends(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {100 * high:.1f}"


def _write_csv(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    define_flags()
    command.run(main)

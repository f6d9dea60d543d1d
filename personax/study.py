"""Preference study command: `python -m personax.study build RUN` and `score VOTES…`."""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command
from personax.core.files import expand
from personax.core.outputs import make_parent
from personax.evaluation import preference_rates, preference_study
from personax.sampling.options import SEEDS

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing the module defines none."""
    text, path = flags.DEFINE_string, command.define_path
    text("methods", "", "build: the methods to compare, such as lora,infusion.")
    path("out", "study.html", "build: the page; its key is written beside it as .json.")
    path("references", None, "build: a folder per subject. Default: RUN/references.")
    number = flags.DEFINE_integer
    number("questions", 40, "build: number of questions.", 1, 10_000)
    number("seed", 0, "Seed of the questions, and of the bootstrap.", *SEEDS)
    path("study", None, "score: the key that build wrote.")
    path("csv", None, "score: also write the table as CSV.")
    path("json", None, "score: also write the table as JSON.")


def main(argv: Sequence[str]) -> None:
    with command.exit_on_user_error():
        match argv[1:]:
            case ["build", run]:
                _build(expand(run))
            case ["score", first, *rest]:
                _score([expand(path) for path in (first, *rest)])
            case _:
                raise ValueError(
                    "Usage: personax.study build RUN --methods A,B --out study.html, "
                    "or personax.study score VOTES.json … --study study.json."
                )


def _build(run: pathlib.Path) -> None:
    page = make_parent(FLAGS.out)
    key = preference_study.build(
        page,
        run,
        methods=command.listed(FLAGS.methods),
        references=pathlib.Path(FLAGS.references or run / "references"),
        questions=FLAGS.questions,
        seed=FLAGS.seed,
    )
    print(f"page for the voters in {page}, key (hide it from them) in {key}.")


def _score(paths: Sequence[pathlib.Path]) -> None:
    if not FLAGS.study:
        raise ValueError("score requires the study's key: --study study.json.")
    written = [make_parent(path) for path in (FLAGS.csv, FLAGS.json) if path]
    for path in written:
        if path.resolve() in [each.resolve() for each in (*paths, expand(FLAGS.study))]:
            raise ValueError(f"{path} is an input; choose another file for the table.")
    key = preference_study.read_key(pathlib.Path(FLAGS.study))
    ballots = preference_study.read_ballots(paths, key)
    rates = preference_rates.score(key, ballots, seed=FLAGS.seed)
    print(preference_rates.to_text(rates))
    print(preference_rates.summary(key, ballots))
    if FLAGS.csv:
        preference_rates.write_csv(pathlib.Path(FLAGS.csv), rates)
    if FLAGS.json:
        preference_rates.write_json(pathlib.Path(FLAGS.json), key, ballots, rates)


if __name__ == "__main__":
    command.run(main, define_flags)

"""Preference study command: `python -m personax.study build RUN` and `score VOTES…`."""

import pathlib
from collections.abc import Sequence

from absl import flags

from personax.cli import command
from personax.evaluation import preference_rates, preference_study

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing the module defines none."""
    text = flags.DEFINE_string
    text("methods", "", "build: the methods to compare, such as lora,infusion.")
    text("out", "study.html", "build: the page; its key is written beside it as .json.")
    text("references", None, "build: a folder per subject. Default: RUN/references.")
    flags.DEFINE_integer("questions", 40, "build: number of questions.")
    flags.DEFINE_integer("seed", 0, "Seed of the questions, and of the bootstrap.")
    text("study", None, "score: the key that build wrote.")
    text("csv", None, "score: also write the table as CSV.")
    text("json", None, "score: also write the table as JSON.")


def main(argv: Sequence[str]) -> None:
    with command.exit_on_user_error():
        match argv[1:]:
            case ["build", run]:
                _build(pathlib.Path(run))
            case ["score", first, *rest]:
                _score([pathlib.Path(path) for path in (first, *rest)])
            case _:
                raise ValueError(
                    "Usage: personax.study build RUN --methods A,B --out study.html, "
                    "or personax.study score VOTES.json … --study study.json."
                )


def _build(run: pathlib.Path) -> None:
    page = pathlib.Path(FLAGS.out)
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

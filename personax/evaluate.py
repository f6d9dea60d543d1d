"""Evaluation command: `python -m personax.evaluate --config FILE`."""

import contextlib
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from personax.cli import command
from personax.core.files import expand
from personax.evaluation.config import read_config
from personax.evaluation.outputs import write_outputs
from personax.evaluation.runner import claimed, evaluate, open_runner

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the command's flags; importing the module defines none."""
    config_flags.DEFINE_config_file(
        "config", None, "Config file such as configs/evaluate/emoji.py."
    )
    flags.DEFINE_string("workdir", None, "Default: runs/evaluate/NAME of the config.")
    flags.DEFINE_list(
        "rows",
        (),
        "Evaluate only these rows; the outputs include other rows of the workdir. "
        "Processes with different rows can share a workdir; a row of pairs must run "
        "together with the row it is of.",
    )
    flags.mark_flag_as_required("config")


def main(argv: Sequence[str]) -> None:
    watch = command.Stopwatch()
    name = command.config_name(config_flags.get_config_filename(FLAGS["config"]))
    with contextlib.ExitStack() as held:
        with watch("load"), command.exit_on_user_error():
            out = expand(FLAGS.workdir or f"runs/evaluate/{name}")
            runner = open_runner(read_config(FLAGS.config), out, FLAGS.rows)
            held.enter_context(claimed(runner))
        with watch("evaluate"):
            results = evaluate(runner)
        with watch("report"):
            write_outputs(runner.protocol, results, out)
    print((out / "table.md").read_text())
    print(f"{len(results)} results, report in {out}/report.html: {watch}")


if __name__ == "__main__":
    command.run(main, define_flags)

"""Training command: `python -m personax.train --config FILE`."""

import pathlib
import sys
from collections.abc import Sequence

from absl import flags
from ml_collections import config_flags

from personax.cli import command, distributed_flags
from personax.training.train import train


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    config_flags.DEFINE_config_file(
        "config", None, "Such as configs/quickstart.py, or a run's own config.yaml."
    )
    flags.DEFINE_string("workdir", None, "Default: runs/NAME of the config.")
    flags.mark_flag_as_required("config")
    flags.DEFINE_integer(
        "stopped_status", 0, "Exit status of a run told to stop, for schedulers."
    )
    distributed_flags.define_flags()


def main(argv: Sequence[str]) -> None:
    command.start()
    config = flags.FLAGS.config
    name = command.config_name(config_flags.get_config_filename(flags.FLAGS["config"]))
    folder = pathlib.Path(flags.FLAGS.workdir or f"runs/{name}")
    with command.exit_on_user_error():
        together = distributed_flags.join()
    with together, command.exit_on_failure():
        if not train(config, folder):
            sys.exit(flags.FLAGS.stopped_status)


if __name__ == "__main__":
    define_flags()
    command.run(main)

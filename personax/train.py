"""Training command: `python -m personax.train --config FILE`.

From Python the module is a function: `personax.train(config, workdir)`.
"""

import pathlib
import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from personax.cli import command, distributed_flags
from personax.core.errors import invalid_input
from personax.training import train as training
from personax.training.config import load_config


class _Function(types.ModuleType):
    # Importing the command binds the name `personax.train` to this module, so the
    # module itself is callable.
    def __call__(
        self,
        config: ConfigDict | Mapping[str, Any] | str | pathlib.Path,
        workdir: str | pathlib.Path,
    ) -> bool:
        """Train the concepts of a config in a work directory, resuming a run there.

        `config` is a ConfigDict, a mapping with the same keys, or the path of a config
        file. The concept is written to `workdir`/concept. Returns True when the run is
        complete, and False when a signal stopped it. Raises InputError for an invalid
        config, and DivergedError.
        """
        if isinstance(config, str | pathlib.Path):
            with invalid_input():
                config = load_config(config)
        return training.train(config, pathlib.Path(workdir))


sys.modules[__name__].__class__ = _Function


def define_flags() -> None:
    """The command's flags; a function, so that importing this file defines none."""
    config_flags.DEFINE_config_file(
        "config", None, "Such as configs/quickstart.py, or a run's own config.yaml."
    )
    flags.DEFINE_string("workdir", None, "Default: runs/NAME of the config.")
    flags.mark_flag_as_required("config")
    flags.DEFINE_integer(
        "stopped_status", 0, "Exit status of a run that a signal stopped."
    )
    distributed_flags.define_flags()


def main(argv: Sequence[str]) -> None:
    config = flags.FLAGS.config
    name = command.config_name(config_flags.get_config_filename(flags.FLAGS["config"]))
    folder = pathlib.Path(flags.FLAGS.workdir or f"runs/{name}")
    with command.exit_on_user_error():
        processes = distributed_flags.join()
    with processes, command.exit_on_failure():
        if not training.train(config, folder):
            sys.exit(flags.FLAGS.stopped_status)


if __name__ == "__main__":
    command.run(main, define_flags)

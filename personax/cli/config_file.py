"""A config file for ml_collections: `--config FILE` is passed here.

Read as `load_config` does it, a file finds its siblings wherever it lies, its errors
are one line, and it may be YAML, TOML or JSON.
"""

from absl import flags
from ml_collections import ConfigDict

from personax.training.config import load_config


def get_config(path: str) -> ConfigDict:
    """The config of a file; see `load_config`. Raises `flags.Error` for its errors."""
    try:
        return load_config(path)
    # ml_collections would put its own traceback in the message of these.
    except (ValueError, TypeError, OSError) as error:
        raise flags.Error(str(error))

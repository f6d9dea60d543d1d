"""A config for ml_collections that is not Python: YAML, TOML or JSON.

`--config FILE.yaml` is passed here.
"""

from ml_collections import ConfigDict

from personax.training.config import load_config


def get_config(path: str) -> ConfigDict:
    """The config of a file; see `load_config`."""
    return load_config(path)

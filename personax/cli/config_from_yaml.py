"""A YAML config for ml_collections: `--config FILE.yaml` is passed here."""

from ml_collections import ConfigDict

from personax.training.config import load_config


def get_config(path: str) -> ConfigDict:
    """The config.yaml of a run; see `load_config`."""
    return load_config(path)

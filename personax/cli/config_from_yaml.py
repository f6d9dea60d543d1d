"""The config in a YAML file, for ml_collections: `--config FILE.yaml` comes here."""

import pathlib
from typing import Any

import yaml
from ml_collections import ConfigDict


def get_config(path: str) -> ConfigDict:
    """The config that a run wrote to its config.yaml; ValueError where it is none."""
    file = pathlib.Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"There is no config {path}.")
    try:
        values = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {error}.")
    if not isinstance(values, dict) or not {"base", "method"} <= values.keys():
        raise ValueError(f"{path} is no config of a run: it names no base and method.")
    return ConfigDict(_with_tuples(values))


def _with_tuples(value: Any) -> Any:
    # YAML has no tuples, and a config no lists.
    if isinstance(value, dict):
        return {key: _with_tuples(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return tuple(_with_tuples(inner) for inner in value)
    return value

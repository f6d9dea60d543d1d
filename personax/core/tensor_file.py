"""safetensors files, written."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] = {}
) -> None:
    """A file with the permissions of any other.

    safetensors' own `save_file` lets nobody but its user read what it wrote.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, dict(metadata) or None)
    path.chmod(mode)

"""Write safetensors files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file


def write_tensors(
    path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str] = {}
) -> None:
    """Write a safetensors file with the permissions of any other file.

    safetensors' own `save_file` makes files that only their owner can read.
    """
    path.touch()
    mode = path.stat().st_mode
    save_file(dict(tensors), path, dict(metadata) or None)
    path.chmod(mode)

"""Read safetensors files as views of the mapped file."""

import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np

# {name: array} of one or more files; the arrays are views of memory-mapped files, read
# when used.
Stored = dict[str, np.ndarray]

_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
# The format's own limit.
_MAX_HEADER = 100 * 2**20


def open_safetensors(path: Path) -> Stored:
    """The tensors of a safetensors file, as views of the mapped file.

    Raises ValueError for a file that is empty, truncated or of another format.
    Source: the format's description, github.com/huggingface/safetensors.
    """
    size = path.stat().st_size
    if size < 8:
        raise ValueError(f"{path} is not a safetensors file: it has {size} bytes.")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size, _MAX_HEADER):
            raise ValueError(
                f"{path} is not a safetensors file, or truncated inside its header: "
                f"its first 8 bytes announce a header of {length} bytes in {size}."
            )
        header = _parse(path, file.read(length))
    start = 8 + length
    expected = start + max((e["data_offsets"][1] for e in header.values()), default=0)
    if size != expected:
        raise ValueError(
            f"{path} is {'truncated' if size < expected else 'damaged'}: its "
            f"header describes {expected} bytes, the file has {size}."
        )
    if not header:
        return {}
    data = np.memmap(path, np.uint8, mode="r", offset=0)
    return {name: _view(path, name, data, start, e) for name, e in header.items()}


def _parse(path: Path, header: bytes) -> dict[str, dict]:
    try:
        entries = json.loads(header)
        entries.pop("__metadata__", None)
        for entry in entries.values():
            first, last = entry["data_offsets"]
            _ = entry["dtype"], math.prod(entry["shape"]), last - first  # must be there
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(
            f"{path} is not a safetensors file: its header is not a list of tensors."
        )
    return entries


def _view(path: Path, name: str, data: np.memmap, start: int, entry: dict):
    if entry["dtype"] not in _DTYPES:
        raise ValueError(
            f"{path}: {name} is of type {entry['dtype']}, not one of "
            f"{', '.join(_DTYPES)}."
        )
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    first, last = entry["data_offsets"]
    if first < 0 or last - first != math.prod(entry["shape"]) * dtype.itemsize:
        raise ValueError(
            f"{path} is damaged: {name} of shape {tuple(entry['shape'])} does not fill "
            "its bytes."
        )
    return np.ndarray(entry["shape"], dtype, data, start + first)

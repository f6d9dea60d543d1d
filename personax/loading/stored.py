"""Read safetensors files as views of the mapped file."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
_CHUNK = 2**20  # numbers, which fit the cache


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
    end = 0
    for first, last in sorted(entry["data_offsets"] for entry in header.values()):
        if first != end or last < first:
            raise ValueError(
                f"{path} is damaged: its tensors overlap, or leave bytes out."
            )
        end = last
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


def is_finite(tensor: np.ndarray) -> bool:
    """Whether a tensor has neither NaN nor infinities; at memory speed."""
    if tensor.dtype.kind in "iub":
        return True
    flat = tensor.reshape(-1)
    for start in range(0, flat.size, _CHUNK):
        piece = flat[start : start + _CHUNK]
        with np.errstate(all="ignore"):
            # A sum is not finite if a number is not; the converse needs a look at each.
            whole = piece.astype(np.float32, copy=False).sum()
            if not np.isfinite(whole) and not np.isfinite(piece).all():
                return False
    return True


def check_finite(path: object, stored: Mapping[str, np.ndarray]) -> None:
    """ValueError, with the tensor's name, for NaN and infinities in a file."""
    for name, tensor in stored.items():
        if not is_finite(tensor):
            raise ValueError(
                f"{path}: the tensor {name} has NaN or infinite numbers; the file is "
                "damaged, or its training diverged."
            )


def _parse(path: Path, header: bytes) -> dict[str, dict]:
    try:
        entries = json.loads(header, object_pairs_hook=_unique)
        entries.pop("__metadata__", None)
        for entry in entries.values():
            first, last = entry["data_offsets"]
            if not isinstance(entry["shape"], list):
                raise ValueError
            if not all(map(_is_size, (first, last, *entry["shape"]))):
                raise ValueError
            _ = entry["dtype"] + "", last - first  # must be there
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ValueError(
            f"{path} is not a safetensors file: its header is not a list of tensors, "
            "each with a name of its own, a dtype, a shape and its place."
        )
    return entries


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose keys are unique; ValueError otherwise."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise ValueError
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

"""A restricted reader of torch's pickles (.bin, .ckpt, .pt, .pth), with NumPy only.

A pickle is a program. This reader resolves only four names, those that rebuild tensors
and dictionaries, and refuses all others.
"""

import math
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from personax.loading.stored import Stored

_DTYPES = {
    "DoubleStorage": np.float64,
    "FloatStorage": np.float32,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
# The first bytes of files from before torch 1.6: a pickle of this number.
_UNZIPPED = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_LOCAL_HEADER = 30  # bytes of a zip entry's header before its name


class _Storage(NamedTuple):
    """A class of torch's storages, as the pickle names it."""

    dtype: np.dtype


def open_pickle(path: Path) -> Stored:
    """The tensors of a file written by torch.save, as views of the mapped file.

    A file from before torch 1.6 is not a zip file; its tensors are read into memory. A
    dictionary under "state_dict" replaces the whole; entries that are not tensors are
    dropped. Raises ValueError for any other file, and for a pickle that names anything
    but tensors and dictionaries.
    """
    try:
        with path.open("rb") as file:
            unzipped = file.read(len(_UNZIPPED)) == _UNZIPPED
        values = _read_unzipped(path) if unzipped else _read_zipped(path)
    except (zipfile.BadZipFile, EOFError):
        raise ValueError(f"{path} is not a torch file, or is truncated.")
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused: {error}.")
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not contain a dictionary of tensors.")
    if isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    return {
        str(name): value
        for name, value in values.items()
        if isinstance(value, np.ndarray)
    }


def _read_zipped(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        program = next((n for n in entries if n.endswith("/data.pkl")), None)
        if program is None:
            raise ValueError(f"{path} is a zip file, but none of torch's.")
        root = program.removesuffix("data.pkl")
        _check_order(path, archive, entries, root)
        with archive.open(program) as file:
            return _ZippedReader(file, path, root, entries).load()


def _read_unzipped(path: Path) -> Any:
    """Five pickles (a number, a version, the machine, the values, the storages' keys),
    then each storage: its length, then its numbers."""
    with path.open("rb") as file:
        _, _, machine = (_Reader(file).load() for _ in range(3))
        if not isinstance(machine, dict) or not machine.get("little_endian"):
            raise ValueError(f"{path} has byte order big, not little.")
        reader = _UnzippedReader(file)
        values = reader.load()
        for key in _Reader(file).load():
            storage = reader.storages.get(key)
            count = int.from_bytes(file.read(8), "little")
            if storage is None or count != storage.size:
                raise pickle.UnpicklingError(f"its storage {key} is not the one named")
            # The tensors are views of the storage that is read here.
            if file.readinto(storage.view(np.uint8).data) != storage.nbytes:
                raise EOFError
            reader.storages.pop(key)
        if reader.storages:
            raise pickle.UnpicklingError("it lacks storages that its tensors refer to")
    return values


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _rebuild_parameter
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _Storage(np.dtype(_DTYPES[name]))
        raise pickle.UnpicklingError(
            f"its pickle asks for {module}.{name}, but only tensors and "
            "dictionaries are read"
        )


class _ZippedReader(_Reader):
    def __init__(self, file, path: Path, root: str, entries: dict):
        super().__init__(file)
        self._path, self._root, self._entries = path, root, entries

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("its pickle refers to something not a storage")
        entry = self._entries.get(f"{self._root}data/{key}")
        if entry is None or entry.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError(f"its storage {key} is missing or compressed")
        if entry.file_size < count * storage.dtype.itemsize:
            raise pickle.UnpicklingError(f"its storage {key} is too short")
        if count == 0:
            return np.empty(0, storage.dtype)
        with self._path.open("rb") as file:
            file.seek(entry.header_offset + _LOCAL_HEADER - 4)
            name, extra = np.frombuffer(file.read(4), "<u2").tolist()
        offset = entry.header_offset + _LOCAL_HEADER + name + extra
        return np.memmap(self._path, storage.dtype, "r", offset, (count,))


class _UnzippedReader(_Reader):
    def __init__(self, file):
        super().__init__(file)
        self._size = os.fstat(file.fileno()).st_size
        self.storages: dict[str, np.ndarray] = {}

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, storage, key, _, count, view = pid
        if kind != "storage" or not isinstance(storage, _Storage) or view is not None:
            raise pickle.UnpicklingError("its pickle refers to something not a storage")
        if count * storage.dtype.itemsize > self._size:
            raise pickle.UnpicklingError(f"its storage {key} is too short")
        return self.storages.setdefault(key, np.empty(count, storage.dtype))


def _rebuild_tensor(storage, offset, size, stride, *_) -> np.ndarray:
    if not isinstance(storage, np.ndarray):
        raise pickle.UnpicklingError("its pickle rebuilds a tensor from no storage")
    if math.prod(size) == 0:
        return np.empty(size, storage.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if offset < 0 or min(stride, default=0) < 0 or last >= storage.size:
        raise pickle.UnpicklingError("its pickle places a tensor outside its storage")
    steps = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _rebuild_parameter(tensor: np.ndarray, *_) -> np.ndarray:
    return tensor


def _check_order(path: Path, archive: zipfile.ZipFile, entries: dict, root: str):
    if f"{root}byteorder" in entries:
        order = archive.read(f"{root}byteorder")
        if order != b"little":
            raise ValueError(f"{path} has byte order {order.decode()}, not little.")

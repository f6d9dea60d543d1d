"""A restricted reader of torch's pickles (.bin, .ckpt, .pt, .pth), with NumPy only.

A pickle is a program. `pickled_names` has the few names that this reader resolves; any
other may occur, but not be called.
"""

import io
import itertools
import os
import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from personax.core.errors import one_line
from personax.loading.pickle_scan import check_pickle
from personax.loading.pickled_names import Names, Storage
from personax.loading.stored import Stored

# The first bytes of files from before torch 1.6: a pickle of this number.
_UNZIPPED = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_LOCAL_HEADER = 30  # bytes of a zip entry's header before its name
_MAX_DEPTH = 32
_MAX_TENSORS = 10**5
_MAX_NAME = 2**12
# Of the program itself, without the numbers of tensors; Stable Diffusion's has 0.2 MB.
_MAX_PROGRAM = 2**26  # bytes


def open_pickle(path: Path) -> Stored:
    """The tensors of a file written by torch.save, as views of the mapped file.

    A file from before torch 1.6 is not a zip file; its tensors are read into memory. A
    dictionary under "state_dict" replaces the whole; the names of nested dictionaries
    are joined with dots, and entries that are not tensors are dropped. Raises
    ValueError for any other file, for one without tensors, and for a pickle that calls
    anything but what rebuilds tensors and plain values.
    """
    return tensors_of(read_pickle(path), path)


def tensors_of(values: Any, path: Path) -> Stored:
    """The tensors in what `read_pickle` made of a file, as `open_pickle` has them."""
    if not isinstance(values, dict):
        raise ValueError(f"{path} does not contain a dictionary of tensors.")
    if isinstance(values.get("state_dict"), dict):
        values = values["state_dict"]
    # A dictionary that occurs twice in each of 32 others would be read 2^32 times.
    entries = list(itertools.islice(_tensors(values), _MAX_TENSORS + 1))
    if len(entries) > _MAX_TENSORS:
        raise ValueError(f"{path} has more than {_MAX_TENSORS:,} tensors.")
    stored = dict(entries)
    if not stored:
        names = ", ".join(list(values)[:8]) or "nothing"
        raise ValueError(f"{path} contains no tensors; its entries are {names}.")
    return stored


def read_pickle(path: Path) -> dict[str, Any] | list[Any]:
    """The values of a file written by torch.save, in nested dictionaries and lists.

    The leaves are arrays (views of the mapped file, as for `open_pickle`), numbers,
    strings and None. Keys become strings, tuples and sets lists, a ParameterDict a
    dictionary; whatever else the pickle names is dropped. Raises ValueError as
    `open_pickle` does, and for a file of a single value.
    """
    try:
        with path.open("rb") as file:
            unzipped = file.read(len(_UNZIPPED)) == _UNZIPPED
        values = _read_unzipped(path) if unzipped else _read_zipped(path)
    except (zipfile.BadZipFile, EOFError):
        raise ValueError(f"{path} is not a torch file, or is truncated.")
    except pickle.UnpicklingError as error:
        raise ValueError(f"{path} is refused: {error}.")
    # Whatever the zip and pickle modules run into in a damaged file.
    except Exception as error:
        raise ValueError(
            f"{path} is not a torch file, or is damaged: {one_line(error)}."
        )
    plain = _plain(values, path)
    if not isinstance(plain, dict | list):
        raise ValueError(f"{path} does not contain a dictionary or list of tensors.")
    return plain


class _Dropped:
    """Stands for a value that is not plain."""


def _plain(values: Any, path: Path) -> Any:
    """`values` without what is not plain."""
    seen: dict[int, Any] = {}  # a value may occur many times, but is copied once

    def plain(value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:  # also a dictionary that contains itself
            raise ValueError(f"{path} is refused: its values are nested too deeply.")
        if id(value) not in seen:
            seen[id(value)] = copy(value, depth + 1)
        return seen[id(value)]

    def copy(value: Any, depth: int) -> Any:
        if isinstance(value, Mapping):
            pairs = [(str(key), plain(entry, depth)) for key, entry in value.items()]
            return {key: entry for key, entry in pairs if entry is not _Dropped}
        if isinstance(value, list | tuple | set | frozenset):
            entries = [plain(entry, depth) for entry in value]
            return [entry for entry in entries if entry is not _Dropped]
        leaves = np.ndarray | int | float | str | bytes | None
        return value if isinstance(value, leaves) else _Dropped

    return plain(values, 0)


def _tensors(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if len(prefix) + len(name) > _MAX_NAME:
            raise ValueError(f"it has a name of more than {_MAX_NAME} letters.")
        if isinstance(value, np.ndarray):
            yield prefix + name, value
        elif isinstance(value, dict):
            yield from _tensors(value, f"{prefix}{name}.")


def _read_zipped(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        program = next((n for n in entries if n.endswith("/data.pkl")), None)
        if program is None:
            raise ValueError(f"{path} is a zip file, but none of torch's.")
        root = program.removesuffix("data.pkl")
        _check_order(path, archive, entries, root)
        size = entries[program].file_size
        if size > _MAX_PROGRAM:
            raise pickle.UnpicklingError(f"its pickle has {size:,} bytes")
        with archive.open(program) as file:
            data = io.BytesIO(file.read(_MAX_PROGRAM + 1))
        return _ZippedReader(data, size, path, root, entries).load()


def _read_unzipped(path: Path) -> Any:
    """Five pickles (a number, a version, the machine, the values, the storages' keys),
    then each storage: its length, then its numbers."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        _, _, machine = (_Reader(file, size).load() for _ in range(3))
        if not isinstance(machine, dict) or not machine.get("little_endian"):
            raise ValueError(f"{path} has byte order big, not little.")
        reader = _UnzippedReader(file, size)
        values = reader.load()
        for key in _Reader(file, size).load():
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
    def __init__(self, file, size: int):
        check_pickle(file, size)
        super().__init__(file)
        self._names = Names()

    def find_class(self, module: str, name: str) -> Any:
        return self._names.find(module, name)

    def load(self) -> Any:
        try:
            return super().load()
        except (pickle.UnpicklingError, EOFError):
            raise
        except Exception as error:  # whatever a damaged program runs into
            kind = type(error).__name__
            raise pickle.UnpicklingError(f"its pickle is damaged ({kind})")


class _ZippedReader(_Reader):
    def __init__(self, file, size: int, path: Path, root: str, entries: dict):
        super().__init__(file, size)
        self._path, self._root, self._entries = path, root, entries

    def persistent_load(self, pid: Any) -> np.ndarray:
        kind, storage, key, _, count = pid
        if kind != "storage" or not isinstance(storage, Storage):
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
    def __init__(self, file, size: int):
        super().__init__(file, size)
        self._left = size
        self.storages: dict[str, np.ndarray] = {}

    def persistent_load(self, pid: Any) -> Any:
        if pid[0] == "module":  # a class and its source, of a module of torch
            return pid[1]
        kind, storage, key, _, count, view = pid
        if kind != "storage" or not isinstance(storage, Storage) or view is not None:
            raise pickle.UnpicklingError("its pickle refers to something not a storage")
        if key not in self.storages:
            self._left -= count * storage.dtype.itemsize
            if self._left < 0:
                raise pickle.UnpicklingError(f"its storage {key} is too short")
            self.storages[key] = np.empty(count, storage.dtype)
        return self.storages[key]


def _check_order(path: Path, archive: zipfile.ZipFile, entries: dict, root: str):
    if f"{root}byteorder" in entries:
        with archive.open(f"{root}byteorder") as file:
            order = file.read(16)
        if order != b"little":
            shown = order.decode("ascii", "replace")
            raise ValueError(f"{path} has byte order {shown}, not little.")

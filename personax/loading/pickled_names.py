"""What the names in torch's pickles mean to the restricted reader.

A name resolves to a function of this module, never to the object that it names: nothing
is imported. The list is what published checkpoints and embeddings call.
"""

import math
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import ml_dtypes
import numpy as np

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


class Storage(NamedTuple):
    """A class of torch's storages, as the pickle names it."""

    dtype: np.dtype


class Names:
    """The objects that one pickle's names resolve to."""

    def __init__(self):
        self._inert: dict[tuple[str, str], type] = {}

    def find(self, module: str, name: str) -> Any:
        """The function for a name, a storage, or a class that refuses to be called.

        A Lightning checkpoint has classes as the keys of its callbacks' states.
        """
        if (module, name) in _FUNCTIONS:
            found = _FUNCTIONS[module, name]
            return found if isinstance(found, type) else _Fixed(found)
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return Storage(np.dtype(_DTYPES[name]))
        if (module, name) not in self._inert:
            self._inert[module, name] = _inert(f"{module}.{name}")
        return self._inert[module, name]


class _Fixed:
    """A function without attributes, which a pickle could set."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]):
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> NoReturn:
        raise pickle.UnpicklingError("its pickle changes a function")


def _inert(name: str) -> type:
    """A class without instances."""

    def refuse(cls, *args, **kwargs) -> NoReturn:
        raise pickle.UnpicklingError(
            f"its pickle asks for {name}, but only tensors and plain values are read"
        )

    return type(name, (), {"__slots__": (), "__new__": refuse})


def _rebuild_tensor(storage, offset, size, stride, *_) -> np.ndarray:
    if not isinstance(storage, np.ndarray):
        raise pickle.UnpicklingError("its pickle rebuilds a tensor from no storage")
    if math.prod(size) == 0:
        return np.empty(size, storage.dtype)
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if offset < 0 or min(stride, default=0) < 0 or last >= storage.size:
        raise pickle.UnpicklingError("its pickle places a tensor outside its storage")
    if math.prod(size) > storage.size:  # with strides of 0
        raise pickle.UnpicklingError("its pickle repeats the numbers of a tensor")
    steps = [s * storage.itemsize for s in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, steps)


def _rebuild_parameter(tensor: np.ndarray, *_) -> np.ndarray:
    return tensor


class _ParameterDict(dict):
    """torch's module of named parameters, as in the first textual inversions."""

    def __init__(self):
        pass

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, Mapping) and isinstance(state.get("_parameters"), Mapping):
            self.update(state["_parameters"])


class _Dtype:
    """NumPy's dtype of a scalar."""

    def __init__(self, code: str, *_):
        self.dtype = np.dtype(code) if code[:1] in "fiub" else None

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple) and ">" in state[:2]:
            raise pickle.UnpicklingError("its pickle has numbers of byte order big")


def _scalar(dtype: Any, data: bytes) -> Any:
    if not isinstance(dtype, _Dtype) or dtype.dtype is None:
        raise pickle.UnpicklingError("its pickle has a scalar that is not a number")
    return np.frombuffer(data, dtype.dtype, 1)[0].item()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How pickles of protocol 2 write bytes."""
    if encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError(f"its pickle has bytes encoded as {encoding!r}")
    return text.encode("latin1")


_FUNCTIONS: Mapping[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("torch.nn.modules.container", "ParameterDict"): _ParameterDict,
    ("torch", "Size"): tuple,
    ("collections", "OrderedDict"): OrderedDict,
    ("builtins", "set"): set,
    ("__builtin__", "set"): set,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _Dtype,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
}

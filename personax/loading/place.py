"""Stored tensors onto devices one at a time, and a fingerprint of what they hold."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from personax.loading.names import to_layout
from personax.loading.stored import Stored

# One sharding for all, or one for each path ("unet/conv_in/kernel") and shape.
Shardings = Sharding | Callable[[str, tuple[int, ...]], Sharding] | None

_ALIGNED = 64  # bytes
_COLUMNS = 64
_CHUNK = 512  # 64-bit words that one sum of the fingerprint covers


def place(
    stored: Stored,
    template: Mapping[str, Any],
    *,
    dtype: str,
    sharding: Shardings = None,
) -> dict[str, jax.Array]:
    """{path: array on device} of {path: stored tensor}, cast and in our layout.

    Each tensor is transposed and cast while it is copied out of the mapped file, and is
    on its devices before the next is read: the host never holds a second one. With a
    sharding, a host reads only the slices that its own devices hold.
    """
    arrays = {}
    for path, tensor in stored.items():
        view = to_layout(path, tensor, len(template[path].shape))
        target = sharding(path, view.shape) if callable(sharding) else sharding
        arrays[path] = _place(view, jnp.dtype(dtype), target).block_until_ready()
    return arrays


class Fingerprints(NamedTuple):
    """Fingerprints of all tensors together, and by part: {"vae": …}."""

    whole: str
    parts: dict[str, str]


def fingerprints(
    stored: Stored, template: Mapping[str, Any], dtype: str | None = None
) -> Fingerprints:
    """sha256 over each tensor's path, shape, dtype and the sums of its 4 KiB pieces.

    Every byte is read, at memory speed. Weights that differ in any number have
    different fingerprints, unless the sum of every piece stays the same. The same
    numbers in one file or in shards, under diffusers' names or LDM's, have one
    fingerprint; in another dtype, another. With a `dtype`, the fingerprints are those
    of a copy in that dtype.
    """
    whole, parts = hashlib.sha256(), defaultdict(hashlib.sha256)
    for path in sorted(stored):
        tensor, shape = stored[path], tuple(template[path].shape)
        if dtype is not None:  # one at a time
            tensor = tensor.astype(jnp.dtype(dtype))
        own = parts[path.split("/")[0]]
        for piece in _pieces(path, tensor, shape):
            whole.update(piece)
            own.update(piece)
    digests = {part: digest.hexdigest() for part, digest in parts.items()}
    return Fingerprints(whole.hexdigest(), digests)


def _pieces(path: str, tensor: np.ndarray, shape: tuple[int, ...]) -> Iterator[bytes]:
    yield f"{path} {shape} {tensor.dtype}\n".encode()
    data = np.ascontiguousarray(tensor).reshape(-1).view(np.uint8)
    even = len(data) // (8 * _CHUNK) * 8 * _CHUNK
    words = data[:even].view(np.uint64).reshape(-1, _CHUNK)
    yield words.sum(axis=1, dtype=np.uint64).tobytes()
    yield data[even:].tobytes()


def _place(view: np.ndarray, dtype: np.dtype, sharding: Sharding | None) -> jax.Array:
    if sharding is None:
        return jax.device_put(_copy(view, dtype))
    return jax.make_array_from_callback(
        view.shape, sharding, lambda index: _copy(view[index], dtype)
    )


def _copy(view: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A contiguous copy of `view`, never a view: a file may be written to later.

    It is aligned as JAX on CPU needs in order to keep the buffer and not copy it again,
    and made in blocks of columns that fit the cache, where transposing is 2x faster.
    """
    size = view.size * dtype.itemsize
    buffer = np.empty(size + _ALIGNED, np.uint8)
    start = -buffer.ctypes.data % _ALIGNED
    out = buffer[start : start + size].view(dtype).reshape(view.shape)
    if view.ndim < 2:
        out[...] = view
        return out
    for i in range(0, view.shape[-1], _COLUMNS):
        out[..., i : i + _COLUMNS] = view[..., i : i + _COLUMNS]
    return out

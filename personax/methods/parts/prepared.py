"""Arrays that parts compute once from the base, kept in `Denoiser.prepared`."""

import dataclasses
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from personax.diffusion.denoiser import Denoiser


def put_prepared(denoiser: Denoiser, name: str, arrays: Any) -> Denoiser:
    """The denoiser with `arrays` as `prepared[name]`, replicated on its devices.

    Arrays left on the host would be transferred in every step.
    """
    leaf = jax.tree.leaves(denoiser.params)[0]
    place = leaf.sharding
    if isinstance(place, NamedSharding):
        place = NamedSharding(place.mesh, PartitionSpec())
    prepared = {**denoiser.prepared, name: jax.device_put(arrays, place)}
    return dataclasses.replace(denoiser, prepared=prepared)


def get_prepared(denoiser: Denoiser, name: str) -> Any:
    """`prepared[name]`; ValueError if it is missing."""
    if name not in denoiser.prepared:
        raise ValueError(
            f"The denoiser has no prepared {name!r}; call "
            "`methods.prepare(method, denoiser, corpus)` before binding."
        )
    return denoiser.prepared[name]

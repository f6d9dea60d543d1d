"""What parts compute once of the parameters: kept beside them, and found again."""

from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from personax.diffusion.denoiser import Denoiser


def keep(denoiser: Denoiser, name: str, arrays: Any) -> Denoiser:
    """The denoiser with `arrays` under `name` in `prepared`, on its devices.

    They are whole on each: what comes from the host would otherwise travel every step.
    """
    leaf = jax.tree.leaves(denoiser.params)[0]
    place = leaf.sharding
    if isinstance(place, NamedSharding):
        place = NamedSharding(place.mesh, PartitionSpec())
    found = {**denoiser.prepared, name: jax.device_put(arrays, place)}
    return denoiser.replace(prepared=found)


def kept(denoiser: Denoiser, name: str) -> Any:
    """What was kept under `name`; ValueError where nothing was."""
    if name not in denoiser.prepared:
        raise ValueError(
            f"Nothing is prepared as {name!r}: pass the denoiser through "
            "`methods.prepare(method, denoiser, corpus)` before it is bound."
        )
    return denoiser.prepared[name]

"""How far two words of a prompt look at the same places of the picture."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from experiments.claims.watching import Maps
from personax.diffusion import attention_maps


def shared(one: Maps, other: Maps) -> Float[np.ndarray, " b"]:
    """The part of each map that lies where the other's does, both summing to 1.

    1 of two maps that are alike, 0 of two that never meet, whatever their strength.
    """
    p, q = (each / each.sum(axis=(1, 2), keepdims=True) for each in (one, other))
    return np.minimum(p, q).sum(axis=(1, 2))


def iou(one: Maps, other: Maps) -> Float[np.ndarray, " b"]:
    """Intersection over union of where each map has more than half of its maximum."""
    p, q = (
        np.asarray(attention_maps.object_region(jnp.asarray(each)))
        for each in (one, other)
    )
    return (p & q).sum(axis=(1, 2)) / (p | q).sum(axis=(1, 2))

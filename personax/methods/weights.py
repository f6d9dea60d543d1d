"""Theta in the weights: a part that owns the kernels which a pattern selects."""

from collections.abc import Sequence

import jax.numpy as jnp

from personax.denoiser import Denoiser
from personax.methods.base import Concept, Part
from personax.tree import overwrite, select
from personax.typing import Key, Params, Theta


def weights(pattern: str) -> Part:
    """The selected parameters themselves, trained from their pretrained values.

    Theta is {path: leaf}, in float32 whatever the base is stored in.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        leaves = select(params, pattern)
        # A copy also where the base is float32: the step donates theta's buffers.
        return {path: jnp.array(leaf, jnp.float32) for path, leaf in leaves.items()}

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        return denoiser.replace(params=overwrite(denoiser.params, theta))

    return Part(init, bind)

"""The state of a training run between two steps: arrays only."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from personax.core.typing import Key, Theta


@struct.dataclass
class TrainState:
    """The pytree that a checkpoint holds. Step i uses the key `fold_in(key, i)`."""

    step: Int[Array, ""] | Any  # Any: a tree of shardings has the same structure
    theta: Theta
    opt: Any
    key: Key | Any
    ema: Theta | Any = None  # the running average of theta, if kept

    @property
    def trained(self) -> Theta:
        """The theta to evaluate and save: the running average, if kept."""
        return self.theta if self.ema is None else self.ema


def create(theta: Theta, opt: Any, key: Key, *, ema: bool = False) -> TrainState:
    """The state before the first step."""
    # A copy: theta and its average must not share the buffers that a step donates.
    average = jax.tree.map(jnp.copy, theta) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), theta, opt, key, average)

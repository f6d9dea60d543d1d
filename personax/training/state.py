"""What a training run is made of between two steps: arrays only."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from personax.core.typing import Key, Theta


@struct.dataclass
class TrainState:
    """A checkpoint is this pytree. The key of step i is `fold_in(key, i)`."""

    step: Int[Array, ""] | Any  # Any: trees of shardings have the same form
    theta: Theta
    opt: Any
    key: Key | Any
    ema: Theta | Any = None  # a running average of theta, where one is kept


def create(theta: Theta, opt: Any, key: Key, *, ema: bool = False) -> TrainState:
    """The state before the first step."""
    # A copy: theta and its average must not share the buffers that a step donates.
    average = jax.tree.map(jnp.copy, theta) if ema else None
    return TrainState(jnp.zeros((), jnp.int32), theta, opt, key, average)

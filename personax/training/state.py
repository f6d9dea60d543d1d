"""What a training run is made of between two steps: arrays only."""

from typing import Any

import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int

from personax.typing import Key, Theta


@struct.dataclass
class TrainState:
    """A checkpoint is this pytree. The key of step i is `fold_in(key, i)`."""

    step: Int[Array, ""]
    theta: Theta
    opt: Any
    key: Key


def create(theta: Theta, opt: Any, key: Key) -> TrainState:
    """The state before the first step."""
    return TrainState(jnp.zeros((), jnp.int32), theta, opt, key)

"""The validation loss: on fixed pictures, with fixed timesteps and noise."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from personax.core.typing import Key, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods.losses import Batch, with_masks
from personax.methods.parts.base import Method, bind


def make_validation(
    method: Method,
) -> Callable[[Theta, Denoiser, Sequence[Batch], Key], float]:
    """A function `(theta, base, batches, key) -> mean loss of the method`.

    Example i of batch j uses the key `split(fold_in(key, j))[i]`.
    """

    @jax.jit
    def loss(theta: Theta, base: Denoiser, batch: Batch, key: Key):
        keys = jax.random.split(key, batch.ids.shape[0])
        bound = with_masks(bind(method, base, theta), batch, keys)
        return method.loss(bound, batch, keys)[0]

    def validate(theta, base, batches, key):
        losses = [
            loss(theta, base, batch, jax.random.fold_in(key, j))
            for j, batch in enumerate(batches)
        ]
        return float(jnp.stack(losses).mean())

    return validate

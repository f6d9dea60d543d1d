"""The loss on fixed pictures, times and noise: what tells a trend from the dice."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from personax.core.typing import Key, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods.losses import Batch
from personax.methods.parts.base import Method, bind


def make_validation(
    method: Method,
) -> Callable[[Theta, Denoiser, Sequence[Batch], Key], float]:
    """`(theta, base, batches, key) -> the method's loss`, the mean over the batches.

    Example i of batch j has the key `split(fold_in(key, j))[i]`, the same each time.
    """

    @jax.jit
    def loss(theta: Theta, base: Denoiser, batch: Batch, key: Key):
        keys = jax.random.split(key, batch.ids.shape[0])
        return method.loss(bind(method, base, theta), batch, keys)[0]

    def validate(theta, base, batches, key):
        losses = [
            loss(theta, base, batch, jax.random.fold_in(key, j))
            for j, batch in enumerate(batches)
        ]
        return float(jnp.stack(losses).mean())

    return validate

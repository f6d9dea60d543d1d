"""Losses: a denoiser, a batch and a key to (scalar, metrics)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.denoiser import Denoiser, encode, network
from personax.diffusion import schedule
from personax.networks.vae import Posterior, draw, scale
from personax.typing import Ids, Key, Metrics


class Batch(NamedTuple):
    """Images as their posteriors, so that each visit draws its own latent."""

    posterior: Posterior
    ids: Ids


def denoising(
    denoiser: Denoiser, batch: Batch, key: Key
) -> tuple[Float[Array, ""], Metrics]:
    """Mean squared error of the network's prediction, t ~ U{0 … T-1}.

    Ho et al. 2020, eq. 14, L_simple; the target is the noise or the velocity, whichever
    the base predicts (Salimans & Ho 2022, sec. 4).
    """
    posterior_key, noise_key, time_key = jax.random.split(key, 3)
    spec = denoiser.spec
    keys = jax.random.split(posterior_key, batch.ids.shape[0])
    x0 = scale(spec.vae, draw(batch.posterior, keys))
    eps = jax.random.normal(noise_key, x0.shape)
    t = jax.random.randint(time_key, x0.shape[:1], 0, spec.schedule.num_train_timesteps)
    x = schedule.noise(spec.schedule, x0, eps, t)
    predicted, _ = network(
        denoiser, x, t.astype(jnp.float32), encode(denoiser, batch.ids)
    )
    target = schedule.target(spec.schedule, x0, eps, t)
    loss = jnp.square(predicted - target).mean()
    return loss, {"loss": loss}

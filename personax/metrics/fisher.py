"""The latent Fisher divergence of two denoisers (Infusion, Zeng et al. 2024, eq. 4)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from personax.core.typing import Latents
from personax.diffusion import schedule
from personax.diffusion.denoiser import Denoiser, Prompt, predict


def divergences(
    one: Denoiser,
    other: Denoiser,
    x0: Latents,
    prompts: tuple[Prompt, Prompt],
    keys: Key[Array, " b"],
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """Half the squared distance at noised latents: (of the noise, of the scores).

    The mean of the first over latents is the paper's D_F, exactly 0 for a denoiser and
    itself; the second is divided by 1 - ᾱ_t. `x0` are scaled latents of pictures;
    `prompts` are each denoiser's encoded prompts, a row per latent, in the paper
    captions without the concept. Each row's key gives its noise and its timestep,
    uniform over the training timesteps. Raises ValueError for different noise
    schedules.
    """
    config = one.spec.schedule
    bars = [schedule.alphas_cumprod(each.spec.schedule) for each in (one, other)]
    if not np.array_equal(bars[0], bars[1]):
        raise ValueError("The denoisers have different noise schedules.")
    x, t = _noised(config, x0, keys)
    # One program called twice: one program for both could round them differently.
    eps, other_eps = (
        _eps(denoiser, x, t, prompt).astype(jnp.float32)
        for denoiser, prompt in zip((one, other), prompts, strict=True)
    )
    total = jnp.square(eps - other_eps).sum(axis=(1, 2, 3)) / 2
    alpha_bar = jnp.asarray(bars[0], jnp.float32)[t]
    return total, total / (1 - alpha_bar)


def _noise(
    config: schedule.ScheduleConfig, x0: Latents, keys: Key[Array, " b"]
) -> tuple[Latents, Int[Array, " b"]]:
    """(noised latents, their timesteps)."""
    split = jax.vmap(jax.random.split)(keys)
    steps, shape = config.num_train_timesteps, x0.shape[1:]
    t = jax.vmap(lambda key: jax.random.randint(key, (), 0, steps))(split[:, 0])
    eps = jax.vmap(lambda key: jax.random.normal(key, shape))(split[:, 1])
    return schedule.noise(config, x0, eps, t), t


def _predicted(
    denoiser: Denoiser, x: Latents, t: Int[Array, " b"], prompt: Prompt
) -> Latents:
    return predict(denoiser, x, t.astype(jnp.float32), prompt)[0]


_noised = jax.jit(_noise, static_argnums=0)
_eps = jax.jit(_predicted)

"""The latent Fisher divergence of two denoisers (Infusion, Zeng et al. 2024, eq. 4)."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from personax.core.typing import Latents
from personax.diffusion import schedule
from personax.diffusion.denoiser import Denoiser, Prompt, predict


def noises(
    one: Denoiser,
    other: Denoiser,
    x0: Latents,
    prompts: tuple[Prompt, Prompt],
    keys: Key[Array, " b"],
) -> tuple[Latents, Latents, Float[Array, " b"]]:
    """(noise of `one`, noise of `other`, ᾱ_t) at noised latents, for `divergence`.

    `x0` are scaled latents of pictures; `prompts` are each denoiser's encoded prompts,
    a row per latent, in the paper captions without the concept. Each row's key gives
    its noise and its timestep, uniform over the training timesteps. Raises ValueError
    for different noise schedules.
    """
    bars = [schedule.alphas_cumprod(each.spec.schedule) for each in (one, other)]
    if not np.array_equal(bars[0], bars[1]):
        raise ValueError("The denoisers have different noise schedules.")
    x, t = _noised(one.spec.schedule, x0, keys)
    # One program called twice: one program for both could round them differently.
    eps, other_eps = (
        _eps(denoiser, x, t, prompt)
        for denoiser, prompt in zip((one, other), prompts, strict=True)
    )
    return eps, other_eps, jnp.asarray(bars[0], jnp.float32)[t]


def divergence(
    eps: Latents, other: Latents, *, alpha_bar: Float[Array, " b"] | None = None
) -> Float[Array, " b"]:
    """Half the squared distance of two noise predictions, per latent.

    The mean over latents is the paper's D_F, exactly 0 for a denoiser and itself. With
    `alpha_bar` it is divided by 1 - ᾱ_t, which compares scores instead of noise.
    """
    difference = eps.astype(jnp.float32) - other.astype(jnp.float32)
    total = jnp.square(difference).sum(axis=(1, 2, 3)) / 2
    return total if alpha_bar is None else total / (1 - alpha_bar)


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

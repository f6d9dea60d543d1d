"""The latent Fisher divergence of two denoisers (Infusion, Zeng et al. 2024, eq. 4)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from personax.core.typing import Latents
from personax.diffusion import schedule
from personax.diffusion.denoiser import Denoiser, Prompt, predict

WEIGHTS = ("none", "score")


class Divergence(NamedTuple):
    """The divergence at each latent."""

    total: Float[Array, " b"]  # half the sum of squared differences, as in the paper
    mean: Float[Array, " b"]  # `total` divided by the latent's size


def between(
    one: Denoiser,
    other: Denoiser,
    x0: Latents,
    prompts: tuple[Prompt, Prompt],
    keys: Key[Array, " b"],
    *,
    weight: str = "none",
) -> Divergence:
    """Half the squared distance of two denoisers' noise predictions at noised latents.

    `x0` are scaled latents of pictures; `prompts` are each denoiser's encoded prompts,
    a row per latent, in the paper captions without the concept. Each row's key gives
    its noise and its timestep, uniform over the training timesteps. The mean over rows
    is D_F, exactly 0 for a denoiser and itself. `weight="score"` divides by 1 - ᾱ_t,
    which compares scores; "none" compares noise, as in the paper.

    Raises ValueError for another weight and for different noise schedules.
    """
    if weight not in WEIGHTS:
        raise ValueError(f"Unknown weight={weight!r}; expected none or score.")
    eps, other_eps, bar = noises(one, other, x0, prompts, keys)
    return divergence(eps, other_eps, alpha_bar=bar if weight == "score" else None)


def noises(
    one: Denoiser,
    other: Denoiser,
    x0: Latents,
    prompts: tuple[Prompt, Prompt],
    keys: Key[Array, " b"],
) -> tuple[Latents, Latents, Float[Array, " b"]]:
    """(noise of `one`, noise of `other`, ᾱ_t) at noised latents; see `between`.

    For several weights of `divergence`. Raises ValueError for different noise
    schedules.
    """
    bars = [schedule.alphas_cumprod(each.spec.schedule) for each in (one, other)]
    if not np.array_equal(*bars):
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
) -> Divergence:
    """The divergence of two noise predictions, divided by 1 - `alpha_bar` if given."""
    difference = eps.astype(jnp.float32) - other.astype(jnp.float32)
    total = jnp.square(difference).sum(axis=(1, 2, 3)) / 2
    if alpha_bar is not None:
        total = total / (1 - alpha_bar)
    return Divergence(total, total / math.prod(eps.shape[1:]))


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

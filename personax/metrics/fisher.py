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
    """Of each latent; the larger, the further the two noises are apart."""

    total: Float[Array, " b"]  # half the sum of squares over its numbers, the paper's
    mean: Float[Array, " b"]  # that over how many numbers it has


def between(
    one: Denoiser,
    other: Denoiser,
    x0: Latents,
    prompts: tuple[Prompt, Prompt],
    keys: Key[Array, " b"],
    *,
    weight: str = "none",
) -> Divergence:
    """Half the squared distance of both denoisers' noises at one noised latent each.

    `x0` are pictures' latents as the denoisers know them, scaled; `prompts` are what
    each denoiser reads, a row for each latent: captions that speak of no concept, by
    the paper. Time is uniform over the schedule's training times; it and the noise come
    from each row's own key. The mean over rows is D_F, 0 of a denoiser and itself to
    the last bit. `weight="score"` divides by 1 - ᾱ_t, which makes noises scores, and
    "none" does not, like the paper. A latent that is not finite has no finite value.
    Raises ValueError for another weight and for two noise schedules.
    """
    if weight not in WEIGHTS:
        raise ValueError(f"There is no weight {weight!r}; there are: none, score.")
    eps, other_eps, bar = noises(one, other, x0, prompts, keys)
    return divergence(eps, other_eps, alpha_bar=bar if weight == "score" else None)


def noises(
    one: Denoiser,
    other: Denoiser,
    x0: Latents,
    prompts: tuple[Prompt, Prompt],
    keys: Key[Array, " b"],
) -> tuple[Latents, Latents, Float[Array, " b"]]:
    """(one's noise, the other's, ᾱ_t) at one noised latent each, as `between` has them.

    For `divergence`, where more than one weight is wanted. Raises ValueError for two
    noise schedules.
    """
    bars = [schedule.alphas_cumprod(each.spec.schedule) for each in (one, other)]
    if not np.array_equal(*bars):
        raise ValueError("The two denoisers were trained with two noise schedules.")
    x, t = _noised(one.spec.schedule, x0, keys)
    # One program called twice: two calls in one may be compiled to other roundings.
    eps, other_eps = (
        _eps(denoiser, x, t, prompt)
        for denoiser, prompt in zip((one, other), prompts, strict=True)
    )
    return eps, other_eps, jnp.asarray(bars[0], jnp.float32)[t]


def divergence(
    eps: Latents, other: Latents, *, alpha_bar: Float[Array, " b"] | None = None
) -> Divergence:
    """Of two predicted noises, weighted by 1 / (1 - ᾱ_t) where `alpha_bar` is given."""
    difference = eps.astype(jnp.float32) - other.astype(jnp.float32)
    total = jnp.square(difference).sum(axis=(1, 2, 3)) / 2
    if alpha_bar is not None:
        total = total / (1 - alpha_bar)
    return Divergence(total, total / math.prod(eps.shape[1:]))


def _noise(
    config: schedule.ScheduleConfig, x0: Latents, keys: Key[Array, " b"]
) -> tuple[Latents, Int[Array, " b"]]:
    """(the latents noised at a time of each row's own, these times)."""
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

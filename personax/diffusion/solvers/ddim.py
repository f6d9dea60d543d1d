"""DDIM (Song, Meng and Ermon 2021), deterministic or with eta of DDPM's noise."""

import jax.numpy as jnp
import numpy as np

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from personax.diffusion.solvers.grid import Grid, clip, spaced, spacing, time_grid
from personax.diffusion.solvers.prediction import predict_eps, predict_z0
from personax.diffusion.solvers.solver import Solver, draw, stateless


def ddim(eta: float = 0.0) -> Solver:
    """DDIM with `eta` in [0, 1] of the posterior's noise."""

    def step(x, state, output, row, keys):
        z0, eps = predict_z0(x, output, row), predict_eps(x, output, row)
        if eta == 0:
            return ddim_update(z0, eps, row), state
        return ddim_noisy_update(z0, eps, row, draw(keys, x), eta), state

    return Solver(ddim_grid, stateless, step)


def ddim_grid(schedule: ScheduleConfig, steps: int) -> Grid:
    """Steps from each time to the time num_train_timesteps // steps below it.

    With leading and trailing spacing that is the next time. With linspace it is not,
    and the assumed noise level of x differs from its real one, as in diffusers.
    """
    schedule = schedule.read_by("ddim")
    times = np.round(spaced(schedule, steps, spacing(schedule, "leading")))
    below = times - schedule.num_train_timesteps // steps
    last = final_bar(schedule, set_alpha_to_one=True)
    return clip(schedule, time_grid(schedule, times, below, last))


def final_bar(schedule: ScheduleConfig, *, set_alpha_to_one: bool) -> float:
    """ᾱ at the end of sampling; `set_alpha_to_one` is the default of the schedule's."""
    if schedule.set_alpha_to_one is not None:
        set_alpha_to_one = schedule.set_alpha_to_one
    return 1.0 if set_alpha_to_one else float(alphas_cumprod(schedule)[0])


def ddim_update(z0: Latents, eps: Latents, row: Grid) -> Latents:
    """x at the row's next rates, with all its noise along eps."""
    return row.next_signal * z0 + row.next_noise * eps


def ddim_noisy_update(
    z0: Latents, eps: Latents, row: Grid, fresh: Latents, eta: float = 1.0
) -> Latents:
    """x at the row's next rates, with eta of the posterior's deviation along `fresh`.

    Eq. 12 and 16, Song et al. 2021.
    """
    posterior_std = eta * row.posterior_std
    kept = jnp.sqrt(jnp.maximum(row.next_noise**2 - posterior_std**2, 0))
    return row.next_signal * z0 + kept * eps + posterior_std * fresh

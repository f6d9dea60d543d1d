"""DDPM's ancestral sampling (Ho, Jain and Abbeel 2020) on a subset of the times."""

import numpy as np

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers.ddim import ddim_noisy_update
from personax.diffusion.solvers.grid import Grid, clip, spaced, spacing, time_grid
from personax.diffusion.solvers.prediction import predict_z0
from personax.diffusion.solvers.solver import Solver, draw, stateless


def ddpm() -> Solver:
    """Each step samples the posterior q(x_next | x, z0), with its own variance."""
    return Solver(ddpm_grid, stateless, ddpm_step)


def ddpm_grid(schedule: ScheduleConfig, steps: int) -> Grid:
    """Steps from each time to the next; the last one ends without noise."""
    schedule = schedule.read_by("ddpm")
    times = np.round(spaced(schedule, steps, spacing(schedule, "leading")))
    below = np.append(times[1:], -1.0)
    return clip(schedule, time_grid(schedule, times, below, last=1.0))


def ddpm_step(x: Latents, state, output: Latents, row: Grid, keys):
    """Eq. 7, Ho et al. 2020.

    The mean is next_signal z0 + sqrt(next_noise² - posterior_std²) eps, with the eps
    that gives the clipped z0.
    """
    z0 = predict_z0(x, output, row)
    eps = (x - row.signal * z0) / row.noise
    return ddim_noisy_update(z0, eps, row, draw(keys, x)), state

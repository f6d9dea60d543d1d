"""Euler and Euler ancestral over sigmas (Karras et al. 2022; Crowson's k-diffusion).

With y = x / signal and sigma = noise / signal the probability flow is dy/dsigma = eps.
An Euler step, y + (sigma' - sigma) eps, is DDIM's step in x, and the ancestral step is
DDIM's with eta = 1: only the grids differ.
"""

import dataclasses

import numpy as np

from personax.diffusion.schedule import ScheduleConfig, sigmas
from personax.diffusion.solvers.ddim import ddim
from personax.diffusion.solvers.grid import (
    Grid,
    karras,
    sigma_grid,
    spaced,
    spacing,
    time_of,
)
from personax.diffusion.solvers.solver import Solver


def euler() -> Solver:
    """The deterministic first-order solver."""
    return ddim()._replace(grid=euler_grid)


def euler_ancestral() -> Solver:
    """Euler steps to below the next sigma, then noise up to it."""
    return ddim(eta=1.0)._replace(grid=euler_ancestral_grid)


def euler_grid(schedule: ScheduleConfig, steps: int) -> Grid:
    """The grid of `sigma_steps`."""
    return sigma_steps(schedule.read_by("euler"), steps)


def euler_ancestral_grid(schedule: ScheduleConfig, steps: int) -> Grid:
    """The grid of `sigma_steps`. Karras sigmas are k-diffusion's, not diffusers'."""
    return sigma_steps(schedule.read_by("euler_ancestral"), steps)


def sigma_steps(schedule: ScheduleConfig, steps: int) -> Grid:
    """Sigmas at the spaced times, or Karras sigmas between the first and the last.

    Linspace times are not rounded; sigma is interpolated.
    """
    kind = spacing(schedule, "linspace")
    times = spaced(schedule, steps, kind)
    table = sigmas(schedule)
    levels = np.interp(times, np.arange(len(table), dtype=np.float64), table)
    if schedule.use_karras_sigmas:
        levels = karras(levels[0], levels[-1], steps)
        times = time_of(schedule, levels)
    grid = sigma_grid(schedule, times, levels)
    return (
        grid
        if kind == "leading"
        else dataclasses.replace(grid, start=float(grid.noise[0]))
    )

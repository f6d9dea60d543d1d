"""Heun's method over sigmas (Algorithm 1 of Karras et al. 2022, without churn)."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers.ddim import ddim_update
from personax.diffusion.solvers.euler import sigma_steps
from personax.diffusion.solvers.grid import Grid, clip
from personax.diffusion.solvers.prediction import predict_z0
from personax.diffusion.solvers.solver import Solver


@struct.dataclass(kw_only=True)
class HeunGrid(Grid):
    """A grid whose `again` rows repeat the previous step from its start.

    Such a row has the rates of that step; the network is evaluated at its end.
    """

    again: Bool[Array, "*s"]

    def tail(self, step: int) -> "HeunGrid":
        return super().tail(2 * step)


class HeunState(NamedTuple):
    """The x and the slope at the start of the previous row."""

    x: Latents
    eps: Latents


def heun() -> Solver:
    """An Euler step, repeated along the mean of the slopes at its two ends."""
    return Solver(heun_grid, lambda x: HeunState(x, jnp.zeros_like(x)), heun_step)


def heun_grid(schedule: ScheduleConfig, steps: int) -> HeunGrid:
    """Euler's grid, all rows but the last doubled: 2 steps - 1 evaluations."""
    schedule = schedule.read_by("heun")
    euler = clip(schedule, sigma_steps(schedule, steps))
    rows = np.arange(2 * steps - 1)
    columns = jax.tree.map(lambda column: column[rows // 2], euler)
    times = euler.t[(rows + 1) // 2]
    return HeunGrid(**{**vars(columns), "t": times}, again=jnp.asarray(rows % 2 == 1))


def heun_step(x: Latents, state: HeunState, output: Latents, row: HeunGrid, keys):
    """Eq. 4 and 5 of the paper; `again` rows average both slopes."""
    at = dataclasses.replace(
        row,
        signal=jnp.where(row.again, row.next_signal, row.signal),
        noise=jnp.where(row.again, row.next_noise, row.noise),
    )
    eps = (x - at.signal * predict_z0(x, output, at)) / at.noise  # After clipping.
    slope = jnp.where(row.again, (state.eps + eps) / 2, eps)
    start = jnp.where(row.again, state.x, x)
    z0 = (start - row.noise * slope) / row.signal
    return ddim_update(z0, slope, row), HeunState(start, slope)

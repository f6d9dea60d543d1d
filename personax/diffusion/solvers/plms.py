"""PLMS: pseudo linear multistep (PNDM, Liu et al. 2022), no Runge-Kutta start."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Bool, Float

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers.ddim import ddim_update, final_bar
from personax.diffusion.solvers.grid import (
    Grid,
    rows_of,
    spaced,
    spacing,
    time_grid,
)
from personax.diffusion.solvers.prediction import predict_eps, predict_z0
from personax.diffusion.solvers.solver import Solver


@struct.dataclass(kw_only=True)
class PLMSGrid(Grid):
    """A grid with the weights of this and the last three predictions, newest first.

    An `again` row repeats the previous step from its start with the prediction at its
    end, which is not stored.
    """

    weights: Float[Array, "*s 4"]
    again: Bool[Array, "*s"]

    def tail(self, step: int) -> "PLMSGrid":
        """The rows of the steps from `step` on, the first one with its `again` row."""
        once = np.flatnonzero(~np.asarray(self.again))[step:]
        rows = np.insert(once, 1, once[1:2])
        again = np.arange(len(rows)) == 1
        cut = rows_of(self, np.where(again, once[0], rows))
        return dataclasses.replace(
            cut,
            t=rows_of(self, rows).t,
            weights=rows_of(self, np.arange(len(rows))).weights,
            again=jnp.asarray(again),
        )


class PLMSState(NamedTuple):
    """The x of the previous row, and the last three predictions, newest first."""

    x: Latents
    past: tuple[Latents, Latents, Latents]


def plms() -> Solver:
    """A fourth-order multistep solver whose first step is Heun-like."""
    return Solver(plms_grid, _init, plms_step)


def plms_grid(schedule: ScheduleConfig, steps: int) -> PLMSGrid:
    """DDIM's steps with the second time doubled: steps + 1 rows, or 1 for one step."""
    schedule = schedule.read_by("plms")
    times = np.round(spaced(schedule, steps, spacing(schedule, "leading")))
    stride = schedule.num_train_timesteps // steps
    model_times = np.insert(times, 1, times[1:2])
    again = np.zeros(len(model_times), bool)
    again[1:2] = True
    starts = np.where(again, model_times + stride, model_times)
    last = final_bar(schedule, set_alpha_to_one=False)
    grid = time_grid(schedule, starts, starts - stride, last)
    fourth = [[55 / 24, -59 / 24, 37 / 24, -9 / 24]]  # Eq. 9, Liu et al. 2022
    warm_up = [[1, 0, 0, 0], [1 / 2, 1 / 2, 0, 0], [3 / 2, -1 / 2, 0, 0]]
    warm_up.append([23 / 12, -16 / 12, 5 / 12, 0])
    weights = np.array(warm_up + fourth * len(model_times))[: len(model_times)]
    return PLMSGrid(
        **{**vars(grid), "t": jnp.asarray(model_times, jnp.float32)},
        weights=jnp.asarray(weights, jnp.float32),
        again=jnp.asarray(again),
    )


def _init(x: Latents) -> PLMSState:
    zero = jnp.zeros_like(x)
    return PLMSState(x, (zero, zero, zero))


def plms_step(x: Latents, state: PLMSState, output: Latents, row: PLMSGrid, keys):
    """DDIM's step along the weighted outputs, which are eps or v."""
    weighted = zip(row.weights, (output, *state.past), strict=True)
    mixed = sum((weight * each for weight, each in weighted), jnp.zeros_like(x))
    start = jnp.where(row.again, state.x, x)
    shifted = (output, *state.past[:2])
    first, second, third = (
        jnp.where(row.again, old, new)
        for old, new in zip(state.past, shifted, strict=True)
    )
    z0, eps = predict_z0(start, mixed, row), predict_eps(start, mixed, row)
    return ddim_update(z0, eps, row), PLMSState(start, (first, second, third))

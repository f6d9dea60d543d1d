"""The steps of a sampling run: one row per evaluation of the network."""

import dataclasses
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from personax.diffusion.schedule import ScheduleConfig, alphas_cumprod, sigmas

AnyGrid = TypeVar("AnyGrid", bound="Grid")


@struct.dataclass
class Grid:
    """Rows that a sampling scan runs over; a row is a Grid without its leading axis.

    `t` is the network's time, which may lie between training times. `posterior_std` is
    the standard deviation of a DDPM posterior step from (signal, noise) to
    (next_signal, next_noise), Eq. 7 of Ho et al. 2020. Predicted z0 are clipped to
    [-clip, clip], inf for no clipping. `prediction` is the network's prediction type.

    `start` scales unit noise to the initial x of diffusers' scheduler: 1, but noise[0]
    for its sigma schedulers with linspace or trailing times.
    """

    t: Float[Array, "*s"]
    signal: Float[Array, "*s"]
    noise: Float[Array, "*s"]
    next_signal: Float[Array, "*s"]
    next_noise: Float[Array, "*s"]
    posterior_std: Float[Array, "*s"]
    clip: Float[Array, "*s"]
    start: float = struct.field(pytree_node=False, default=1.0)
    prediction: str = struct.field(pytree_node=False, default="epsilon")

    def tail(self: AnyGrid, step: int) -> AnyGrid:
        """The rows from solver step `step` on, for a solver that starts there.

        x starts at the first row's rates; `start` does not apply.
        """
        return rows_of(self, np.arange(step, self.t.shape[0]))


def time_grid(
    schedule: ScheduleConfig,
    times: Float[np.ndarray, " s"],
    next_times: Float[np.ndarray, " s"],
    last: float,
) -> Grid:
    """A grid between training times, with ᾱ = `last` at negative next times.

    Raises ValueError for a schedule with Karras sigmas, which lie between times, and
    for a network that predicts eps at a time without signal.
    """
    if schedule.use_karras_sigmas:
        raise ValueError(
            "Karras sigmas lie between training times; use_karras_sigmas needs one of "
            "euler, euler_ancestral, heun, lms, dpmpp_2m, dpmpp_2m_sde, deis, unipc."
        )
    bar = alphas_cumprod(schedule, zero=0.0)
    now = bar[times.astype(int)]
    if schedule.prediction_type == "epsilon" and not now.all():
        raise ValueError(
            "A schedule with rescale_betas_zero_snr has no signal at its last time, "
            "where the network's eps does not determine the picture; select --spacing "
            "leading."
        )
    after = np.where(next_times < 0, last, bar[next_times.astype(int).clip(0)])
    return make_grid(schedule, times, now, after)


def sigma_grid(
    schedule: ScheduleConfig,
    times: Float[np.ndarray, " s"],
    levels: Float[np.ndarray, " s"],
    last: float = 0.0,
) -> Grid:
    """A grid over descending sigmas (noise / signal), ending at `last`."""
    bar = 1 / (1 + np.append(levels, last) ** 2)
    return make_grid(schedule, times, bar[:-1], bar[1:])


def levels_of(grid: Grid) -> Float[np.ndarray, " s1"]:
    """The sigmas at the starts of the rows and at the end of the last."""
    columns = (grid.signal, grid.noise, grid.next_signal, grid.next_noise)
    signal, noise, next_signal, next_noise = (
        np.asarray(column, np.float64) for column in columns
    )
    return np.append(noise / signal, next_noise[-1] / next_signal[-1])


def make_grid(
    schedule: ScheduleConfig,
    times: Float[np.ndarray, " s"],
    bar: Float[np.ndarray, " s"],
    next_bar: Float[np.ndarray, " s"],
) -> Grid:
    """A grid from ᾱ to the next ᾱ of every row, computed in float64."""
    posterior_std = np.sqrt(
        (1 - next_bar) / (1 - bar) * np.maximum(1 - bar / next_bar, 0)
    )

    def column(values: np.ndarray) -> Array:
        return jnp.asarray(values, jnp.float32)

    return Grid(
        t=column(times),
        signal=column(np.sqrt(bar)),
        noise=column(np.sqrt(1 - bar)),
        next_signal=column(np.sqrt(next_bar)),
        next_noise=column(np.sqrt(1 - next_bar)),
        posterior_std=column(posterior_std),
        clip=column(np.full_like(bar, np.inf)),
        prediction=schedule.prediction_type,
    )


def clip(schedule: ScheduleConfig, grid: Grid) -> Grid:
    """The grid, with predicted z0 clipped if the schedule has `clip_sample`."""
    if not schedule.clip_sample:
        return grid
    return dataclasses.replace(
        grid, clip=jnp.full_like(grid.clip, schedule.clip_sample_range)
    )


def reverse(grid: Grid) -> Grid:
    """The grid from its end to its start, with the same network times."""
    back = jax.tree.map(lambda column: column[::-1], grid)
    return dataclasses.replace(
        back,
        signal=back.next_signal,
        noise=back.next_noise,
        next_signal=back.signal,
        next_noise=back.noise,
        posterior_std=jnp.zeros_like(back.posterior_std),
    )


def rows_of(grid: AnyGrid, rows: Int[np.ndarray, " r"] | slice | int) -> AnyGrid:
    """The grid of these rows, or one row of it."""
    # In numpy, which does not compile for each number of rows.
    return jax.tree.map(lambda column: jnp.asarray(np.asarray(column)[rows]), grid)


def steps_of(grid: Grid) -> Int[np.ndarray, " s"]:
    """For each evaluation of the network, the solver step that starts at its x.

    An `again` row is evaluated at the end of its step, where the next step starts.
    """
    again = np.asarray(getattr(grid, "again", np.zeros(grid.t.shape, bool)))
    return np.cumsum(~again) - 1 + again


def spacing(schedule: ScheduleConfig, default: str) -> str:
    """The schedule's timestep spacing, or the solver's default."""
    return schedule.timestep_spacing or default


def spaced(schedule: ScheduleConfig, steps: int, kind: str) -> Float[np.ndarray, " s"]:
    """Training times in descending order, `linspace` ones not rounded.

    Table 2, Lin et al. 2023. Raises ValueError if the schedule has too few times.
    """
    count = schedule.num_train_timesteps
    if not 1 <= steps <= count:
        raise ValueError(f"steps must be in [1, {count}]; it is {steps}.")
    if kind == "linspace":
        return np.linspace(0, count - 1, steps)[::-1]
    if kind == "trailing":
        return np.round(count - np.arange(steps) * (count / steps)) - 1
    times = np.arange(steps - 1.0, -1.0, -1.0) * (count // steps)
    times += schedule.steps_offset
    if times[0] >= count:
        raise ValueError(
            f"{steps} leading times with steps_offset={schedule.steps_offset} start at "
            f"{times[0]:.0f}; the last training time is {count - 1}."
        )
    return times


def karras(highest: float, lowest: float, steps: int) -> Float[np.ndarray, " s"]:
    """Descending sigmas, Eq. 5 of Karras et al. 2022 with ρ = 7."""
    high, low = highest ** (1 / 7), lowest ** (1 / 7)
    return (high + np.linspace(0, 1, steps) * (low - high)) ** 7


def time_of(
    schedule: ScheduleConfig, levels: Float[np.ndarray, " s"]
) -> Float[np.ndarray, " s"]:
    """The times of these sigmas, interpolated in log sigma."""
    table = np.log(sigmas(schedule))
    return np.interp(np.log(levels), table, np.arange(len(table), dtype=np.float64))

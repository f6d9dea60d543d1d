"""DPM-Solver++(2M) and its SDE form (Lu et al. 2022, "DPM-Solver++")."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from personax.diffusion.schedule import ScheduleConfig, sigmas
from personax.diffusion.solvers.grid import (
    Grid,
    karras,
    sigma_grid,
    spaced,
    spacing,
    time_of,
)
from personax.diffusion.solvers.prediction import predict_z0
from personax.diffusion.solvers.solver import Solver, draw


@struct.dataclass(kw_only=True)
class DPMGrid(Grid):
    """A grid with the weight of z0's extrapolation from the last two predictions.

    `extrapolation` is h / (2 h_last), with h the row's step in log(signal / noise), and
    0 on first-order rows: the first row, and the last, whose h is infinite.
    """

    extrapolation: Float[Array, "*s"]

    def tail(self, step: int) -> "DPMGrid":
        cut = super().tail(step)
        extrapolation = np.array(cut.extrapolation)
        extrapolation[:1] = 0.0
        return dataclasses.replace(cut, extrapolation=jnp.asarray(extrapolation))


def dpmpp_2m() -> Solver:
    """The second-order multistep solver of the probability flow (Algorithm 2)."""

    def step(x, last, output, row, keys):
        z0 = predict_z0(x, output, row)
        mixed = z0 + row.extrapolation * (z0 - last)
        kept = row.next_noise / row.noise
        return kept * x + (row.next_signal - kept * row.signal) * mixed, z0

    return Solver(dpmpp_2m_grid, jnp.zeros_like, step)


def dpmpp_2m_sde() -> Solver:
    """The same solver of the reverse SDE, with fresh noise in every step."""

    def step(x, last, output, row, keys):
        z0 = predict_z0(x, output, row)
        mixed = z0 + row.extrapolation * (z0 - last)
        decay = row.signal * row.next_noise / (row.next_signal * row.noise)  # exp(-h)
        fresh = jnp.sqrt(1 - decay**2)
        mean = (
            row.next_noise / row.noise * decay * x + row.next_signal * fresh**2 * mixed
        )
        return mean + row.next_noise * fresh * draw(keys, x), z0

    return Solver(dpmpp_2m_sde_grid, jnp.zeros_like, step)


def dpmpp_2m_grid(schedule: ScheduleConfig, steps: int) -> DPMGrid:
    """The grid of `dpm_grid`."""
    return dpm_grid(schedule.read_by("dpmpp_2m"), steps)


def dpmpp_2m_sde_grid(schedule: ScheduleConfig, steps: int) -> DPMGrid:
    """The grid of `dpm_grid`."""
    return dpm_grid(schedule.read_by("dpmpp_2m_sde"), steps)


def dpm_grid(schedule: ScheduleConfig, steps: int) -> DPMGrid:
    """The times and sigmas of `dpm_levels`, ending at zero."""
    # diffusers rounds down for the cosine schedule, in this class alone.
    cosine = schedule.beta_schedule == "squaredcos_cap_v2"
    times, levels = dpm_levels(schedule, steps, np.floor if cosine else np.round)
    h = -np.diff(np.log(levels))
    extrapolation = np.zeros(steps)
    extrapolation[1:-1] = h[1:] / h[:-1] / 2
    return DPMGrid(
        **vars(sigma_grid(schedule, times, levels)),
        extrapolation=jnp.asarray(extrapolation, jnp.float32),
    )


def dpm_levels(
    schedule: ScheduleConfig,
    steps: int,
    to_whole: Callable[[np.ndarray], np.ndarray] = np.round,
) -> tuple[Float[np.ndarray, " s"], Float[np.ndarray, " s"]]:
    """(times, sigmas): at spaced training times, or Karras ones over all of them.

    `to_whole` makes times from those of the Karras sigmas.
    """
    table = sigmas(schedule)
    if schedule.use_karras_sigmas:
        levels = karras(table[-1], table[0], steps)
        return to_whole(time_of(schedule, levels)), levels
    times = dpm_times(schedule, steps)
    return times, table[times.astype(int)]


def dpm_times(schedule: ScheduleConfig, steps: int) -> Float[np.ndarray, " s"]:
    """The times at which the steps start.

    The end of the last step counts as a time, so that linspace and leading spacing have
    steps + 1 times.
    """
    kind = spacing(schedule, "linspace")
    if kind == "trailing":
        return spaced(schedule, steps, kind)
    return np.round(spaced(schedule, steps + 1, kind)[:-1])

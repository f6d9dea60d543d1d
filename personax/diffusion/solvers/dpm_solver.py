"""DPM-Solver++(2M) and its SDE form (Lu et al. 2022, "DPM-Solver++")."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from personax.diffusion.schedule import ScheduleConfig, sigmas
from personax.diffusion.solvers.ddim import predict_z0
from personax.diffusion.solvers.grid import (
    Grid,
    karras,
    sigma_grid,
    spaced,
    spacing,
    time_of,
)
from personax.diffusion.solvers.solver import Solver, draw


@struct.dataclass(kw_only=True)
class DPMGrid(Grid):
    """A grid with `ahead`, how far beyond z0 the last two are extrapolated.

    It is h / (2 h_last) with h the row's step in log(signal / noise), and 0 on
    first-order rows: the first, without a past, and the last, whose h is infinite.
    """

    ahead: Float[Array, "*s"]

    def tail(self, step: int) -> "DPMGrid":
        cut = super().tail(step)
        ahead = np.array(cut.ahead)
        ahead[:1] = 0.0
        return cut.replace(ahead=jnp.asarray(ahead))


def dpmpp_2m() -> Solver:
    """The second-order multistep solver of the probability flow (Algorithm 2)."""

    def step(x, last, eps, row, keys):
        z0 = predict_z0(x, eps, row)
        mixed = z0 + row.ahead * (z0 - last)
        kept = row.next_noise / row.noise
        return kept * x + (row.next_signal - kept * row.signal) * mixed, z0

    return Solver(dpm_grid, jnp.zeros_like, step)


def dpmpp_2m_sde() -> Solver:
    """The same for the reverse diffusion, with fresh noise in every step."""

    def step(x, last, eps, row, keys):
        z0 = predict_z0(x, eps, row)
        mixed = z0 + row.ahead * (z0 - last)
        decay = row.signal * row.next_noise / (row.next_signal * row.noise)  # exp(-h)
        fresh = jnp.sqrt(1 - decay**2)
        mean = (
            row.next_noise / row.noise * decay * x + row.next_signal * fresh**2 * mixed
        )
        return mean + row.next_noise * fresh * draw(keys, x), z0

    return Solver(dpm_grid, jnp.zeros_like, step)


def dpm_grid(schedule: ScheduleConfig, steps: int) -> DPMGrid:
    """Sigmas at spaced training times, or Karras ones over the whole schedule.

    The network is told whole times: those nearest to the Karras sigmas, or those below
    them for the cosine schedule, as diffusers has it.
    """
    table = sigmas(schedule)
    if schedule.use_karras_sigmas:
        levels = karras(table[-1], table[0], steps)
        cosine = schedule.beta_schedule == "squaredcos_cap_v2"
        times = (np.floor if cosine else np.round)(time_of(schedule, levels))
    else:
        times = dpm_times(schedule, steps)
        levels = table[times.astype(int)]
    h = -np.diff(np.log(levels))
    ahead = np.zeros(steps)
    ahead[1:-1] = h[1:] / h[:-1] / 2
    return DPMGrid(
        **vars(sigma_grid(times, levels)), ahead=jnp.asarray(ahead, jnp.float32)
    )


def dpm_times(schedule: ScheduleConfig, steps: int) -> Float[np.ndarray, " s"]:
    """Times of the steps' starts: the last step's end counts as a time too.

    So linspace and leading are spaced for one time more than there are steps.
    """
    kind = spacing(schedule, "linspace")
    if kind == "trailing":
        return spaced(schedule, steps, kind)
    return np.round(spaced(schedule, steps + 1, kind)[:-1])

"""Multistep sampling of a latent consistency model (Luo et al. 2023, Algorithm 3)."""

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers.grid import Grid, clip, time_grid
from personax.diffusion.solvers.prediction import predict_z0
from personax.diffusion.solvers.solver import Solver, draw, stateless

_DATA = 0.5  # The deviation of data in the boundary condition.


@struct.dataclass(kw_only=True)
class LCMGrid(Grid):
    """A grid with the boundary condition: the shares of x and of z0 in the result."""

    skip: Float[Array, "*s"]
    out: Float[Array, "*s"]


def lcm() -> Solver:
    """Each step predicts z0 and noises it to the next time; the last does not."""
    return Solver(lcm_grid, stateless, lcm_step)


def lcm_grid(schedule: ScheduleConfig, steps: int) -> LCMGrid:
    """`steps` of the `original_inference_steps` times of the distillation.

    Raises ValueError for more steps than these, and for another spacing of the times.
    """
    schedule = schedule.read_by("lcm")
    count = schedule.original_inference_steps
    if schedule.timestep_spacing is not None:
        raise ValueError(
            "The solver lcm has times of its own; it takes no spacing such as "
            f"{schedule.timestep_spacing}."
        )
    if not 1 <= steps <= count:
        raise ValueError(
            f"steps must be in [1, {count}] for the solver lcm, the steps of its "
            f"distillation; it is {steps}."
        )
    stride = schedule.num_train_timesteps // count
    times = (np.arange(count, 0, -1) * stride - 1.0)[np.arange(steps) * count // steps]
    below = np.append(times[1:], -1.0)
    scaled = times * schedule.timestep_scaling
    skip = _DATA**2 / (scaled**2 + _DATA**2)
    out = scaled / np.sqrt(scaled**2 + _DATA**2)
    return LCMGrid(
        **vars(clip(schedule, time_grid(schedule, times, below, last=1.0))),
        skip=jnp.asarray(skip, jnp.float32),
        out=jnp.asarray(out, jnp.float32),
    )


def lcm_step(x: Latents, state, output: Latents, row: LCMGrid, keys):
    """The consistency function (eq. 9), noised to the row's next rates."""
    z0 = row.out * predict_z0(x, output, row) + row.skip * x
    return row.next_signal * z0 + row.next_noise * draw(keys, x), state

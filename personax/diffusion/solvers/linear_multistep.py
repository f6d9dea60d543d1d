"""LMS and DEIS: multistep integration of eps over sigma.

With y = x / signal and sigma = noise / signal the probability flow is dy/dsigma = eps.
Both integrate the polynomial through the last predictions of eps exactly: LMS
(Crowson's k-diffusion) a polynomial in sigma, DEIS (Zhang and Chen 2023, "Fast sampling
of diffusion models with exponential integrator") one in log sigma.
"""

import dataclasses
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float
from numpy.polynomial import Polynomial

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig, alphas_cumprod
from personax.diffusion.solvers.dpm_solver import dpm_levels
from personax.diffusion.solvers.euler import sigma_steps
from personax.diffusion.solvers.grid import Grid, levels_of, sigma_grid
from personax.diffusion.solvers.prediction import predict_eps
from personax.diffusion.solvers.solver import Solver

_LMS_ORDER, _DEIS_ORDER = 4, 2

# (the last sigmas, newest first; the next sigma) -> the integrals of the polynomials
# that are 1 at one of the sigmas and 0 at the others.
_Integrals = Callable[[np.ndarray, float], Sequence[float]]


@struct.dataclass(kw_only=True)
class MultistepGrid(Grid):
    """A grid with the weights of this and the last predictions of eps, newest first.

    They are for y: y at the next sigma is y plus the weighted sum.
    """

    weights: Float[Array, "*s k"]
    over_log: bool = struct.field(pytree_node=False)

    def tail(self, step: int) -> "MultistepGrid":
        cut = super().tail(step)
        weights = np.array(cut.weights)
        rows, order = weights.shape
        levels, integrals = levels_of(cut), _in_log if self.over_log else _in_sigma
        for i in range(min(order - 1, rows)):
            used = min(i + 1, int(np.count_nonzero(weights[i])))
            weights[i] = _weights(levels, i, used, order, integrals)
        return dataclasses.replace(cut, weights=jnp.asarray(weights))


def lms() -> Solver:
    """The fourth-order linear multistep solver, begun with lower orders."""
    return Solver(lms_grid, _state_of(_LMS_ORDER), multistep_step)


def deis() -> Solver:
    """DEIS of second order (its rhoAB form in log sigma), begun with the first."""
    return Solver(deis_grid, _state_of(_DEIS_ORDER), multistep_step)


def lms_grid(schedule: ScheduleConfig, steps: int) -> MultistepGrid:
    """Euler's grid with the weights of up to four predictions."""
    schedule = schedule.read_by("lms")
    grid = sigma_steps(schedule, steps)
    levels = levels_of(grid)
    weights = [
        _weights(levels, i, min(i + 1, _LMS_ORDER), _LMS_ORDER, _in_sigma)
        for i in range(steps)
    ]
    return MultistepGrid(
        **vars(grid), weights=jnp.asarray(weights, jnp.float32), over_log=False
    )


def deis_grid(schedule: ScheduleConfig, steps: int) -> MultistepGrid:
    """DPM-Solver's grid, which ends at the schedule's lowest sigma.

    As in diffusers, the last of fewer than 15 steps is of first order, and with Karras
    sigmas, which end there already, the last step does nothing.
    """
    schedule = schedule.read_by("deis")
    times, levels = dpm_levels(schedule, steps)
    bar = alphas_cumprod(schedule)[0]
    last = levels[-1] if schedule.use_karras_sigmas else np.sqrt((1 - bar) / bar)
    grid = sigma_grid(schedule, times, levels, last)
    levels = np.append(levels, last)
    weights = [
        _weights(
            levels,
            i,
            1 if i == 0 or (i == steps - 1 and steps < 15) else _DEIS_ORDER,
            _DEIS_ORDER,
            _in_log,
        )
        for i in range(steps)
    ]
    return MultistepGrid(
        **vars(grid), weights=jnp.asarray(weights, jnp.float32), over_log=True
    )


def multistep_step(
    x: Latents,
    past: tuple[Latents, ...],
    output: Latents,
    row: MultistepGrid,
    keys: Array | None,
):
    """x at the next sigma, and the last predictions of eps."""
    known = (predict_eps(x, output, row), *past)
    weighted = zip(row.weights, known, strict=True)
    moved = sum((weight * eps for weight, eps in weighted), x / row.signal)
    return row.next_signal * moved, known[:-1]


def _state_of(order: int) -> Callable[[Latents], tuple[Latents, ...]]:
    def init(x: Latents) -> tuple[Latents, ...]:
        return (jnp.zeros_like(x),) * (order - 1)

    return init


def _weights(
    levels: np.ndarray, i: int, used: int, order: int, integrals: _Integrals
) -> np.ndarray:
    """The weights of row i with the last `used` predictions, padded to `order`."""
    known = levels[i - used + 1 : i + 1][::-1]
    return np.pad(np.asarray(integrals(known, levels[i + 1])), (0, order - used))


def _in_sigma(known: np.ndarray, after: float) -> list[float]:
    scale = known[0]  # Powers of sigmas in [0, 1] keep their digits.
    nodes, end = known / scale, after / scale
    out = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        basis = Polynomial(np.atleast_1d(np.poly(others))[::-1]) / np.prod(
            node - others
        )
        area = basis.integ(lbnd=nodes[0])
        out.append(float(area(end)) * scale)
    return out


def _in_log(known: np.ndarray, after: float) -> list[float]:
    if len(known) == 1:
        return [after - known[0]]
    start, before = known

    def integral(node: float, other: float) -> float:
        """Of log(s / other) / log(node / other) over s, from start to after."""

        def antiderivative(s: float) -> float:
            return s * (np.log(s / other) - 1) / np.log(node / other)

        return antiderivative(after) - antiderivative(start)

    return [integral(start, before), integral(before, start)]

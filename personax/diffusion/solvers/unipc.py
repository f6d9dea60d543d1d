"""UniPC of second order (Zhao et al. 2023), with B(h) = exp(h) - 1 and z0 predictions.

Each step predicts x from the last two z0 (UniP-2). The next evaluation of the network
corrects that x before its own step (UniC-2), so that no further evaluation is needed.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers.dpm_solver import dpm_levels
from personax.diffusion.solvers.grid import Grid, levels_of, sigma_grid
from personax.diffusion.solvers.prediction import predict_z0
from personax.diffusion.solvers.solver import Solver


@struct.dataclass(kw_only=True)
class UniPCGrid(Grid):
    """A grid with the weights of the corrector and of the predictor.

    `correct` weighs x, the corrected x of the last row, and the z0 of this row and the
    two before; `predict` weighs the corrected x and the z0 of this row and the last.
    """

    correct: Float[Array, "*s 5"]
    predict: Float[Array, "*s 3"]

    def tail(self, step: int) -> "UniPCGrid":
        cut = super().tail(step)
        levels, rows = levels_of(cut), cut.t.shape[0]
        correct, predict = np.array(cut.correct), np.array(cut.predict)
        correct[0], predict[0] = [1, 0, 0, 0, 0], _predictor(levels, 0, 1)
        if rows > 1:
            correct[1] = _corrector(levels, 1, 1)
        return dataclasses.replace(
            cut, correct=jnp.asarray(correct), predict=jnp.asarray(predict)
        )


class UniPCState(NamedTuple):
    """The corrected x of the last row, and the last two z0, newest first."""

    x: Latents
    past: tuple[Latents, Latents]


def unipc() -> Solver:
    """The predictor-corrector solver, begun and ended with the first order."""
    return Solver(unipc_grid, _init, unipc_step)


def unipc_grid(schedule: ScheduleConfig, steps: int) -> UniPCGrid:
    """The times and sigmas of DPM-Solver, ending at zero."""
    schedule = schedule.read_by("unipc")
    times, levels = dpm_levels(schedule, steps)
    grid = sigma_grid(schedule, times, levels)
    levels = np.append(levels, 0.0)
    orders = [1 if i in (0, steps - 1) else 2 for i in range(steps)]
    correct = [[1.0, 0, 0, 0, 0]]
    correct += [_corrector(levels, i, orders[i - 1]) for i in range(1, steps)]
    predict = [_predictor(levels, i, order) for i, order in enumerate(orders)]
    return UniPCGrid(
        **vars(grid),
        correct=jnp.asarray(correct, jnp.float32),
        predict=jnp.asarray(predict, jnp.float32),
    )


def unipc_step(x: Latents, state: UniPCState, output: Latents, row: UniPCGrid, keys):
    """Correct x with this row's z0, then predict x at the next rates."""
    z0 = predict_z0(x, output, row)  # Of the x that the network saw.
    last, older = state.past
    x = _weighted(row.correct, (x, state.x, z0, last, older))
    return _weighted(row.predict, (x, z0, last)), UniPCState(x, (z0, last))


def _init(x: Latents) -> UniPCState:
    zero = jnp.zeros_like(x)
    return UniPCState(zero, (zero, zero))


def _weighted(weights: Float[Array, " k"], of: tuple[Latents, ...]) -> Latents:
    pairs = zip(weights, of, strict=True)
    return sum((weight * each for weight, each in pairs), jnp.zeros_like(of[0]))


def _predictor(levels: np.ndarray, i: int, order: int) -> list[float]:
    """UniP (eq. 3 of the paper, for z0): the weights of x, z0 and the last z0."""
    kept, signal, gain = _exponential(levels, i)
    if order == 1:
        return [kept, signal * gain, 0.0]
    ratio = np.log(levels[i - 1] / levels[i]) / np.log(levels[i] / levels[i + 1])
    # D / r = (z0 - last) / ratio has the weight 1/2 for every h.
    share = signal * gain / 2 / ratio
    return [kept, signal * gain + share, -share]


def _corrector(levels: np.ndarray, i: int, order: int) -> list[float]:
    """UniC for the step to row i, which had this order."""
    kept, signal, gain = _exponential(levels, i - 1)
    h = np.log(levels[i - 1] / levels[i])
    if order == 1:
        new = signal * gain / 2
        return [0.0, kept, new, signal * gain - new, 0.0]
    ratio = -np.log(levels[i - 2] / levels[i - 1]) / h
    # Sum_j rho_j r_j^(k - 1) = b_k, with b_k = k! phi_(k + 1)(-h) (-h) / B(-h).
    phi_2 = -gain / -h - 1
    phi_3 = phi_2 / -h - 1 / 2
    rho = np.linalg.solve([[1, 1], [ratio, 1]], [phi_2 / -gain, 2 * phi_3 / -gain])
    older, new = signal * gain * rho / [ratio, 1]
    return [0.0, kept, new, signal * gain - older - new, older]


def _exponential(levels: np.ndarray, i: int) -> tuple[float, float, float]:
    """(the weight of x, the next signal rate, 1 - exp(-h)) of the step from level i.

    The step of first order is x' = kept x + signal (1 - exp(-h)) z0.
    """
    now, after = levels[i], levels[i + 1]
    signal = 1 / np.sqrt(1 + after**2)
    return after * signal / (now / np.sqrt(1 + now**2)), signal, 1 - after / now

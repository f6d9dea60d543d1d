"""The solver interface: a grid of steps, and one step of x."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Key

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers.grid import Grid


class Solver(NamedTuple):
    """Three pure functions.

    `grid(schedule, steps)` returns the rows, `init(x)` the initial state, and
    `step(x, state, output, row, keys)` x and the state after `row`, with the network's
    own output at (x, row.t), of the type `row.prediction`, and one key per image for
    this row (or None).
    """

    grid: Callable[[ScheduleConfig, int], Grid]
    init: Callable[[Latents], Any]
    # The row is one of the solver's own grid, a Grid or a subclass of it.
    step: Callable[[Latents, Any, Latents, Any, Array | None], tuple[Latents, Any]]


def stateless(x: Latents) -> tuple[()]:
    """The state of a solver without memory."""
    return ()


def draw(keys: Key[Array, " b"] | None, x: Latents) -> Latents:
    """Unit normal noise of x's shape, image i from keys[i] alone.

    Raises ValueError without keys.
    """
    if keys is None:
        raise ValueError("This solver draws noise; it needs keys, one per image.")
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)

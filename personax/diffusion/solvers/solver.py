"""What a solver is: a grid of steps, and how one step moves x."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Key

from personax.core.typing import Latents
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers.grid import Grid


class Solver(NamedTuple):
    """Three pure functions.

    `grid(schedule, steps)` makes the rows, `init(x)` the state before the first, and
    `step(x, state, eps, row, keys)` returns x and state after `row`, with eps the
    network's at (x, row.t) and keys the row's own, one per image (or None).
    """

    grid: Callable[[ScheduleConfig, int], Grid]
    init: Callable[[Latents], Any]
    step: Callable[[Latents, Any, Latents, Grid, Array | None], tuple[Latents, Any]]


def stateless(x: Latents) -> tuple[()]:
    """The state of a solver that remembers nothing."""
    return ()


def draw(keys: Key[Array, " b"] | None, x: Latents) -> Latents:
    """Unit normal noise of x's shape, image i from keys[i] alone.

    Raises ValueError without keys.
    """
    if keys is None:
        raise ValueError("This solver draws noise: give it keys, one per image.")
    return jax.vmap(lambda key: jax.random.normal(key, x.shape[1:], x.dtype))(keys)

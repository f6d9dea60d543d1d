"""Guidance weights that change over the steps of a solver."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Piece(NamedTuple):
    """A weight, linear from `first` to `last` in a share of the steps and 0 elsewhere.

    A step is in [begin, end) if its middle is: of [0, 0.5] and [0.5, 1] each step is in
    one.
    """

    first: float
    last: float
    begin: float = 0.0
    end: float = 1.0

    @property
    def constant(self) -> bool:
        return self.first == self.last and (self.begin, self.end) == (0, 1)

    def __str__(self) -> str:
        slope = "" if self.first == self.last else f">{self.last:g}"
        share = f"[{self.begin:g},{self.end:g}]"
        return f"{self.first:g}{slope}{'' if share == '[0,1]' else share}"


class Schedule(NamedTuple):
    """The sum of its pieces; `str` gives the form that `grammar.parse_weight` reads."""

    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        first, *others = map(str, self.pieces)
        return first + "".join(x if x[0] == "-" else f"+{x}" for x in others)


def weight_values(
    weight: float | Schedule, steps: Int[np.ndarray, " s"]
) -> Float[Array, ""] | Float[Array, " s"]:
    """The weight, one number, or one for each evaluation of the network.

    `steps` are the solver steps of the evaluations (`solvers.grid.steps_of`), so that
    evaluations at one noise level have one weight.
    """
    if not isinstance(weight, Schedule):
        return jnp.asarray(weight, jnp.float32)
    count = int(steps.max()) + 1
    total = sum((_by_step(piece, count) for piece in weight.pieces), np.zeros(count))
    return jnp.asarray(total[steps], jnp.float32)


def _by_step(piece: Piece, count: int) -> Float[np.ndarray, " n"]:
    middles = (np.arange(count) + 0.5) / count
    inside = np.flatnonzero((piece.begin <= middles) & (middles < piece.end))
    out = np.zeros(count)
    out[inside] = np.linspace(piece.first, piece.last, len(inside))
    return out


def to_json(weight: float | Schedule) -> float | str:
    """The weight as files hold it: a number, or a schedule's text."""
    return str(weight) if isinstance(weight, Schedule) else weight

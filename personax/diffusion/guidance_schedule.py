"""Guidance weights that change from step to step: how they are written, as numbers."""

import math
import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PIECE = re.compile(rf"({_NUMBER})(?:>({_NUMBER}))?(?:\[({_NUMBER}),\s*({_NUMBER})\])?")


class Piece(NamedTuple):
    """A weight that goes from `first` to `last` in a share of the steps, else 0.

    A step belongs to the share if its middle does, the lower bound included: [0, 0.5]
    and [0.5, 1] have every step between them once.
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
    """A weight that is the sum of its pieces."""

    pieces: tuple[Piece, ...]

    def __str__(self) -> str:
        first, *others = map(str, self.pieces)
        return first + "".join(x if x[0] == "-" else f"+{x}" for x in others)


def parse_weight(text: str) -> float | Schedule:
    """The weight in "3", "1.5>0.5", "2.5[0.2,0.8]", "3>1[0,0.5]" or a sum of such.

    "A>B" goes straight from A in the first step to B in the last one; "[LOW,HIGH]" is
    the share of the steps in which it holds, and elsewhere the piece is 0. Raises
    ValueError for another form.

    >>> str(parse_weight("1+2>0[0.2,0.8]"))
    '1+2>0[0.2,0.8]'
    """
    pieces, at = [], 0
    text = text.strip()
    while at < len(text) or not pieces:
        found = _PIECE.match(text, at)
        # What follows a piece is added to it, so it begins with its sign.
        if not found or (at and text[at] not in "+-"):
            raise ValueError(
                f"The weight {text!r} is none: it is a number, A>B, either with "
                "[LOW,HIGH], or a sum of these, such as 2.5, 1.5>0.5 or 1+2[0.2,0.8]."
            )
        pieces.append(_piece(text, *found.groups()))
        at = found.end()
    if all(piece.constant for piece in pieces):
        return sum(piece.first for piece in pieces)
    return Schedule(tuple(pieces))


def weight_values(
    weight: float | Schedule, steps: Int[np.ndarray, " s"]
) -> Float[Array, ""] | Float[Array, " s"]:
    """The weight, one number, or one for each evaluation of the network.

    `steps` are the steps at whose start the network stands in each evaluation, see
    `solvers.grid.steps_of`: what is evaluated at one noise level has one weight.
    """
    if not isinstance(weight, Schedule):
        return jnp.asarray(weight, jnp.float32)
    count = int(steps.max()) + 1
    total = sum(_by_step(piece, count) for piece in weight.pieces)
    return jnp.asarray(total[steps], jnp.float32)


def _piece(text: str, first: str, last: str | None, *share: str | None) -> Piece:
    begin, end = (float(x) for x in share) if all(share) else (0.0, 1.0)
    if not 0 <= begin < end <= 1:
        raise ValueError(
            f"[{begin:g},{end:g}] in the weight {text!r} is no share of the steps: "
            "two numbers from 0 to 1, the lower one first."
        )
    piece = Piece(float(first), float(last or first), begin, end)
    if not math.isfinite(piece.first + piece.last):
        raise ValueError(f"The weight {text!r} is too large.")
    return piece


def _by_step(piece: Piece, count: int) -> Float[np.ndarray, " n"]:
    middles = (np.arange(count) + 0.5) / count
    inside = np.flatnonzero((piece.begin <= middles) & (middles < piece.end))
    out = np.zeros(count)
    out[inside] = np.linspace(piece.first, piece.last, len(inside))
    return out


def written(weight: float | Schedule) -> float | str:
    """The weight as it stands in a file: a number, or the words for it."""
    return str(weight) if isinstance(weight, Schedule) else weight

"""Sampling from a velocity field by Heun's method."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.toy.peaks import Points, Times
from personax.core.typing import Key

Field = Callable[[Points, Times], Points]


def sample(field: Field, key: Key, number: int, steps: int) -> Points:
    """Integrate dx/dφ = field, φ = πt/2, from noise at t = 1 to t = 0.

    Heun's method, second order (Karras et al. 2022, alg. 1): two evaluations per step,
    with smaller steps at less noise.
    """
    times = jnp.square(jnp.linspace(1.0, 0.0, steps + 1))

    def step(x: Points, ends: tuple) -> tuple[Points, None]:
        now, then = (jnp.full(number, t) for t in ends)
        turn = (jnp.pi / 2 * (then - now))[:, None]
        first = field(x, now)
        second = field(x + turn * first, then)
        return x + turn * (first + second) / 2, None

    noise = jax.random.normal(key, (number, 2))
    return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]

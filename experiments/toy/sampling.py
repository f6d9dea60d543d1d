"""Draws from a velocity field: Heun's method along the probability flow."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from experiments.toy.peaks import Points, Times
from personax.core.typing import Key

Field = Callable[[Points, Times], Points]


def sample(field: Field, key: Key, number: int, steps: int) -> Points:
    """Points that start as noise at t = 1 and follow `field` to t = 0.

    dx/dφ = field with φ = πt/2. Heun's method is of second order (Karras et al. 2022,
    alg. 1): two evaluations a step, which are shorter where there is less noise.
    """
    times = jnp.square(jnp.linspace(1.0, 0.0, steps + 1))

    def step(x: Points, now_and_next: tuple) -> tuple[Points, None]:
        now, then = (jnp.full(number, t) for t in now_and_next)
        turn = (jnp.pi / 2 * (then - now))[:, None]
        here = field(x, now)
        there = field(x + turn * here, then)
        return x + turn * (here + there) / 2, None

    noise = jax.random.normal(key, (number, 2))
    return jax.lax.scan(step, noise, (times[:-1], times[1:]))[0]

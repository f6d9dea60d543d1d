"""How the toy network learns its conditions, and then the concept V* by a method."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from experiments.toy.lesson import draw_of_all
from experiments.toy.network import velocity
from experiments.toy.peaks import Peaks, Points, add_noise, target
from personax.core.tree import overwrite, select
from personax.core.typing import Key, Params, Theta

# What each method trains, by the parameters' paths. Infusion's frozen stream lends
# attention maps, which this network does not have: here it is its residual alone.
METHODS = {
    "dreambooth": r"(?!.*/residual).*",
    "custom_diffusion": r"layers/\d+/to_v/kernel|concept/embedding",
    "textual_inversion": r"concept/embedding",
    "infusion": r"layers/\d+/residual",
}
Steps = int | Int[Array, ""]
Rate = float | Float[Array, ""]
_adam = optax.scale_by_adam()


class State(NamedTuple):
    """A training between two steps."""

    theta: Theta  # {path: leaf}
    moments: optax.OptState
    step: Int[Array, ""]


def start(params: Params, pattern: str) -> State:
    """The training of the leaves that match the pattern, before its first step."""
    theta = select(params, pattern)
    return State(theta, _adam.init(theta), jnp.zeros((), jnp.int32))


@partial(jax.jit, static_argnames=("steps", "batch"))
def pretrain(
    state: State,
    params: Params,
    mixtures: tuple[Peaks, ...],
    key: Key,
    until: Steps,
    *,
    rate: Rate,
    steps: int,
    batch: int,
) -> State:
    """`state` taught all conditions up to the step `until`, `rate` falling as a cosine.

    Fresh draws at every step; the rate is 0 after `steps`.
    """

    def step(i: Int[Array, ""], state: State) -> State:
        where, noise = jax.random.split(jax.random.fold_in(key, i))
        z, condition = draw_of_all(where, mixtures, batch)
        now = rate * (1 + jnp.cos(jnp.pi * i / steps)) / 2
        return _descend(state, params, now, lambda p: loss(p, z, condition, noise))

    return jax.lax.fori_loop(state.step, until, step, state)


@partial(jax.jit, static_argnames="batch")
def teach(
    state: State,
    params: Params,
    shots: Points,
    key: Key,
    until: Steps,
    *,
    rate: Rate,
    batch: int,
) -> State:
    """`state` taught the examples as V* up to the step `until`, by Adam at `rate`.

    The denoising loss alone, without a prior. Every step sees `batch` examples, drawn
    with replacement, each with noise of its own.
    """
    condition = jnp.full(batch, len(params["conditions"]["embedding"]))

    def step(i: Int[Array, ""], state: State) -> State:
        which, noise = jax.random.split(jax.random.fold_in(key, i))
        z = shots[jax.random.randint(which, (batch,), 0, len(shots))]
        return _descend(state, params, rate, lambda p: loss(p, z, condition, noise))

    return jax.lax.fori_loop(state.step, until, step, state)


def loss(
    params: Params, z: Points, condition: Int[Array, " b"], key: Key
) -> Float[Array, ""]:
    """The mean square of what is missing to the velocity, t uniform from 0 to 1."""
    when, what = jax.random.split(key)
    t, eps = jax.random.uniform(when, z.shape[:1]), jax.random.normal(what, z.shape)
    predicted = velocity(params, add_noise(z, t, eps), t, condition)
    return jnp.mean(jnp.square(predicted - target(z, t, eps)))


def _descend(
    state: State,
    params: Params,
    rate: Rate,
    loss_of: Callable[[Params], Float[Array, ""]],
) -> State:
    gradient = jax.grad(lambda theta: loss_of(overwrite(params, theta)))(state.theta)
    updates, moments = _adam.update(gradient, state.moments)
    theta = jax.tree.map(lambda x, u: x - rate * u, state.theta, updates)
    return State(theta, moments, state.step + 1)

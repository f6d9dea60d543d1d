"""Training of the toy network on its conditions, then of V* by each method."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from experiments.toy.network import velocity
from experiments.toy.peaks import Peaks, Points, add_noise, target
from experiments.toy.task import draw_conditions
from personax.core.tree import overwrite, select
from personax.core.typing import Key, Params, Theta

# The parameters that each method trains, by path. Infusion's frozen stream provides
# attention maps, which this network does not have, so only its residual is here.
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
    """A training state."""

    theta: Theta  # {path: leaf}
    moments: optax.OptState
    step: Int[Array, ""]


def start(params: Params, pattern: str) -> State:
    """The initial state for training the leaves that match the pattern."""
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
    """Train all conditions on fresh draws until the step `until`.

    The learning rate follows a cosine from `rate` to 0 at `steps`.
    """

    def step(i: Int[Array, ""], state: State) -> State:
        where, noise = jax.random.split(jax.random.fold_in(key, i))
        z, condition = draw_conditions(where, mixtures, batch)
        now = rate * (1 + jnp.cos(jnp.pi * i / steps)) / 2
        return _update(state, params, now, lambda p: loss(p, z, condition, noise))

    return jax.lax.fori_loop(state.step, until, step, state)


@partial(jax.jit, static_argnames="batch")
def train_concept(
    state: State,
    params: Params,
    examples: Points,
    key: Key,
    until: Steps,
    *,
    rate: Rate,
    batch: int,
) -> State:
    """Train V* on the examples until the step `until`, with Adam at `rate`.

    The denoising loss alone, without a prior. Every step draws `batch` examples with
    replacement, and independent noise.
    """
    condition = jnp.full(batch, len(params["conditions"]["embedding"]))

    def step(i: Int[Array, ""], state: State) -> State:
        which, noise = jax.random.split(jax.random.fold_in(key, i))
        z = examples[jax.random.randint(which, (batch,), 0, len(examples))]
        return _update(state, params, rate, lambda p: loss(p, z, condition, noise))

    return jax.lax.fori_loop(state.step, until, step, state)


def loss(
    params: Params, z: Points, condition: Int[Array, " b"], key: Key
) -> Float[Array, ""]:
    """The mean squared error of the velocity, t uniform from 0 to 1."""
    when, what = jax.random.split(key)
    t, eps = jax.random.uniform(when, z.shape[:1]), jax.random.normal(what, z.shape)
    predicted = velocity(params, add_noise(z, t, eps), t, condition)
    return jnp.mean(jnp.square(predicted - target(z, t, eps)))


def _update(
    state: State,
    params: Params,
    rate: Rate,
    loss_of: Callable[[Params], Float[Array, ""]],
) -> State:
    gradient = jax.grad(lambda theta: loss_of(overwrite(params, theta)))(state.theta)
    updates, moments = _adam.update(gradient, state.moments)
    theta = jax.tree.map(lambda x, u: x - rate * u, state.theta, updates)
    return State(theta, moments, state.step + 1)

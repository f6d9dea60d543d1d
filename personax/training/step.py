"""One optimisation step of any method."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from personax.core.typing import Key, Metrics, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods.losses import Batch, with_masks
from personax.methods.parts.base import Method, after, bind
from personax.training.state import TrainState

Step = Callable[[TrainState, Denoiser, Batch], tuple[TrainState, Metrics]]


def make_step(
    method: Method,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema_decay: float | None = None,
    shardings: TrainState | None = None,
) -> Step:
    """A jitted `(state, base, batch) -> (state, metrics)` that donates the state.

    Gradients are taken with respect to theta only, so the compiler drops the base's.
    Example i of step s uses the key `split(fold_in(key, s))[i]`, whatever the devices
    and `accumulate`, the number of microbatches of a step. `ema_decay` is the decay of
    theta's running average, at most (1 + s) / (10 + s), as in diffusers' EMAModel; it
    applies to a state that has one. `shardings` are those of the new state.
    """

    def step(state: TrainState, base: Denoiser, batch: Batch):
        def objective(theta: Theta, batch: Batch, keys: Key):
            bound = with_masks(bind(method, base, theta), batch, keys)
            return method.loss(bound, batch, keys)

        key = jax.random.fold_in(state.key, state.step)
        keys = jax.random.split(key, batch.ids.shape[0])
        gradient = jax.grad(objective, has_aux=True)
        if accumulate > 1:
            gradient = _in_microbatches(gradient, accumulate)
        gradients, metrics = gradient(state.theta, batch, keys)
        updates, opt = tx.update(gradients, state.opt, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        theta = after(method, base, theta, batch)
        metrics = {
            **metrics,
            "gradient_norm": optax.tree.norm(gradients),
            "theta_norm": optax.tree.norm(theta),
        }
        ema = state.ema
        if ema is not None and ema_decay is not None:
            decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(theta, ema, 1 - decay)
        return TrainState(state.step + 1, theta, opt, state.key, ema), metrics

    placed: dict[str, Any] = (
        {} if shardings is None else {"out_shardings": (shardings, None)}
    )
    return jax.jit(step, donate_argnums=0, **placed)


def _in_microbatches(gradient, count: int):
    """`gradient` as the mean over `count` microbatches, one after the other."""

    def split(x):
        # Microbatch j takes every count-th example, so each is spread over all devices.
        return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)

    def in_microbatches(theta: Theta, batch: Batch, keys: Key):
        def add(total, microbatch):
            examples, keys = microbatch
            result = gradient(theta, examples._replace(pairs=batch.pairs), keys)
            return jax.tree.map(jnp.add, total, result), None

        examples = jax.tree.map(split, batch._replace(pairs=None))
        microbatches = examples, split(keys)
        zero = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(gradient, theta, batch, keys),
        )
        total, _ = jax.lax.scan(add, zero, microbatches)
        return jax.tree.map(lambda x: x / count, total)

    return in_microbatches

"""One optimisation step of any method."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from personax.core.typing import Key, Metrics, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods.losses import Batch
from personax.methods.parts.base import Method, after, bind
from personax.training.state import TrainState

Step = Callable[[TrainState, Denoiser, Batch], tuple[TrainState, Metrics]]


def make_step(
    method: Method,
    tx: optax.GradientTransformation,
    *,
    accumulate: int = 1,
    ema_decay: float = 0.0,
    shardings: TrainState | None = None,
) -> Step:
    """A jitted `(state, base, batch) -> (state, metrics)` that donates the state.

    Gradients are taken with respect to theta only, so the compiler drops the base's.
    Example i of step s has the key `split(fold_in(key, s))[i]`: what it draws does not
    depend on `accumulate`, the number of pieces that the batch is worked off in, nor on
    the devices. `ema_decay` keeps theta's running average, slower at first (as in
    diffusers' EMAModel: at most (1 + s) / (10 + s)). `shardings` pins the new state's.
    """

    def step(state: TrainState, base: Denoiser, batch: Batch):
        def objective(theta: Theta, batch: Batch, keys: Key):
            return method.loss(bind(method, base, theta), batch, keys)

        key = jax.random.fold_in(state.key, state.step)
        keys = jax.random.split(key, batch.ids.shape[0])
        gradient = jax.grad(objective, has_aux=True)
        if accumulate > 1:
            gradient = _in_pieces(gradient, accumulate)
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
        if ema is not None:
            decay = jnp.minimum(ema_decay, (1 + state.step) / (10 + state.step))
            ema = optax.incremental_update(theta, ema, 1 - decay)
        state = state.replace(step=state.step + 1, theta=theta, opt=opt, ema=ema)
        return state, metrics

    placed = {} if shardings is None else {"out_shardings": (shardings, None)}
    return jax.jit(step, donate_argnums=0, **placed)


def _in_pieces(gradient, count: int):
    """`gradient` as the mean over `count` pieces of the batch, one after the other."""

    def split(x):
        # Piece j takes every count-th example, so that each is spread over all devices.
        return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)

    def in_pieces(theta: Theta, batch: Batch, keys: Key):
        def add(total, piece):
            examples, keys = piece
            result = gradient(theta, examples._replace(pairs=batch.pairs), keys)
            return jax.tree.map(jnp.add, total, result), None

        examples = jax.tree.map(split, batch._replace(pairs=None))
        pieces = examples, split(keys)
        zero = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(gradient, theta, batch, keys),
        )
        total, _ = jax.lax.scan(add, zero, pieces)
        return jax.tree.map(lambda x: x / count, total)

    return in_pieces

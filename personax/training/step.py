"""One optimisation step of any method."""

from collections.abc import Callable
from typing import Any

import jax
import optax

from personax.denoiser import Denoiser
from personax.methods.base import Method, bind
from personax.training.state import TrainState
from personax.typing import Metrics


def make_step(
    method: Method, tx: optax.GradientTransformation
) -> Callable[[TrainState, Denoiser, Any], tuple[TrainState, Metrics]]:
    """A jitted `(state, base, batch) -> (state, metrics)` that donates the state.

    Gradients are taken with respect to theta only, so the compiler drops the base's.
    """

    def step(state: TrainState, base: Denoiser, batch: Any):
        key = jax.random.fold_in(state.key, state.step)

        def objective(theta):
            return method.loss(bind(method, base, theta), batch, key)

        gradients, metrics = jax.grad(objective, has_aux=True)(state.theta)
        updates, opt = tx.update(gradients, state.opt, state.theta)
        theta = optax.apply_updates(state.theta, updates)
        metrics = {**metrics, "gradient_norm": optax.tree.norm(gradients)}
        return state.replace(step=state.step + 1, theta=theta, opt=opt), metrics

    return jax.jit(step, donate_argnums=0)

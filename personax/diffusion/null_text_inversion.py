"""Null-text inversion (Mokady et al. 2023)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, UInt8

from personax.core.typing import Text
from personax.diffusion.denoiser import Denoiser, Prompt, network
from personax.diffusion.guidance import Term, guide, weight_at
from personax.diffusion.solvers import Grid, ddim

# The paper's numbers for step i of 50: learning rate RATE (1 - i / 100), loss at which
# the step ends, START + i SLOPE.
RATE, START, SLOPE, STEPS = 1e-2, 1e-5, 2e-5, 50


class NullText(NamedTuple):
    """The unconditional text of every step, its final loss and number of updates."""

    text: Float[Array, "s b n d"]
    loss: Float[Array, "s b"]  # at the last evaluation, of the mean squared error
    updates: Int[Array, "s b"]


def optimise(
    denoisers: Mapping[str, Denoiser],
    terms: Sequence[Term],
    grid: Grid,
    path: Float[Array, "s1 b h w c"],
    *,
    updates: int = 10,
) -> NullText:
    """Optimise the text of `terms[0]` per step so that guided DDIM follows `path`.

    `path` is `sampling.invert_path` of the conditional prediction. Each step starts
    from the previous step's text and takes up to `updates` Adam updates from zero
    moments, until the loss is below its bound. Learning rate and bound are the paper's
    for 50 steps; with s steps, step i uses those of 50 i / s. Prompts have one row;
    images are independent.
    """
    null, *others = terms
    one = denoisers[null.denoiser]
    rest = guide(denoisers, others)
    solver, adam = ddim(), optax.scale_by_adam()
    count = grid.t.shape[0]

    def advance(text: Text, x, other, i, row):
        """x after the row with this unconditional text."""
        output, _ = network(one, x, row.t[None], Prompt(text))
        guided = weight_at(null, i, x.dtype) * output + other
        return solver.step(x, (), guided, row, None)[0]

    def step(carry, scanned):
        (x, text), (i, row, goal) = carry, scanned
        fraction = i * STEPS / count
        other, _ = rest(x, row.t, i)
        other = jax.lax.stop_gradient(other)

        def loss_of(text):
            return jnp.square(advance(text, x, other, i, row) - goal).mean()

        def update(state):
            text, moments, _, n = state
            loss, slope = jax.value_and_grad(loss_of)(text)
            change, moments = adam.update(slope, moments)
            rate = RATE * (1 - fraction / 100)
            return text - rate * change, moments, loss, n + 1

        def unfinished(state):
            *_, loss, n = state
            return (n < updates) & (loss >= START + SLOPE * fraction)

        state = text, adam.init(text), jnp.inf, 0
        text, _, loss, n = jax.lax.while_loop(unfinished, update, state)
        return (advance(text, x, other, i, row), text), (text[0], loss, n)

    def image(path: Float[Array, "s1 h w c"]) -> Any:
        rows = (jnp.arange(count), grid, path[1:, None])
        start = path[:1], null.prompt.text
        return jax.lax.scan(step, start, rows)[1]

    return NullText(*jax.vmap(image, in_axes=1, out_axes=1)(path))


def psnr(a: UInt8[np.ndarray, "*shape"], b: UInt8[np.ndarray, "*shape"]) -> float:
    """The peak signal-to-noise ratio of two uint8 pictures in dB; inf where equal."""
    error = np.square(a.astype(float) - b.astype(float)).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))

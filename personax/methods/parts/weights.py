"""A part that reparameterises the parameters selected by a pattern."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.tree import overwrite, select
from personax.core.typing import Key, Params, Theta
from personax.diffusion.denoiser import Denoiser
from personax.methods.parts.base import Concept, Part

Leaf = Float[Array, "..."]


class Form(NamedTuple):
    """How one parameter W is reparameterised.

    `init(key, W)` returns the parameter's theta, float32, for which `apply(W, theta)`
    equals W.
    """

    init: Callable[[Key, Leaf], Any]
    apply: Callable[[Leaf, Any], Leaf]


def weights(pattern: str, form: Form | None = None) -> Part:
    """The parameters that `pattern` selects, in a `form`, by default `replace()`.

    Theta is {path: the form's theta}.
    """
    form = form or replace()

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        leaves = select(params, pattern)
        keys = jax.random.split(key, len(leaves))
        return {
            path: form.init(keys[i], leaf)
            for i, (path, leaf) in enumerate(leaves.items())
        }

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        leaves = {
            path: form.apply(leaf, theta[path])
            for path, leaf in select(denoiser.params, pattern).items()
        }
        return dataclasses.replace(denoiser, params=overwrite(denoiser.params, leaves))

    return Part(init, bind)


def drawn(pattern: str) -> Part:
    """The selected parameters, trained from random initial values.

    Kernels are uniform in +-1 / sqrt(fan in), biases 0 and scales 1: torch's default
    initialisation except for the biases.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        leaves = select(params, pattern)
        keys = jax.random.split(key, len(leaves))
        return {
            path: _draw(keys[i], path, leaf.shape)
            for i, (path, leaf) in enumerate(leaves.items())
        }

    return weights(pattern)._replace(init=init)


def _draw(key: Key, path: str, shape: tuple[int, ...]) -> Leaf:
    if path.endswith("/scale"):
        return jnp.ones(shape)
    if len(shape) < 2:
        return jnp.zeros(shape)
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def replace() -> Form:
    """The parameter itself, starting from its pretrained value."""

    def init(key: Key, leaf: Leaf) -> Leaf:
        # Always a copy, because the training step donates theta's buffers.
        return jnp.array(leaf, jnp.float32)

    def apply(leaf: Leaf, theta: Leaf) -> Leaf:
        return theta

    return Form(init, apply)


def lora(rank: int, alpha: float | None = None) -> Form:
    """W + (alpha / rank) A B, Hu et al. 2021, eq. 3; alpha is the rank by default.

    A starts from N(0, 1 / rank^2), B at 0. A convolution's A has the kernel's shape
    with `rank` output channels, and its B is 1x1. The product is formed in each step,
    at the cost of one transient kernel.
    """
    if rank < 1:
        raise ValueError(f"The rank {rank} of a low-rank update must be at least 1.")
    factor = (rank if alpha is None else alpha) / rank

    def init(key: Key, leaf: Leaf) -> Theta:
        *inputs, outputs = leaf.shape
        return {
            "lora_A": jax.random.normal(key, (*inputs, rank), jnp.float32) / rank,
            "lora_B": jnp.zeros((rank, outputs), jnp.float32),
        }

    def apply(leaf: Leaf, theta: Theta) -> Leaf:
        update = factor * jnp.einsum("...r,ro->...o", theta["lora_A"], theta["lora_B"])
        return (leaf.astype(jnp.float32) + update).astype(leaf.dtype)

    return Form(init, apply)

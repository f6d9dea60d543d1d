"""Theta in the weights: a part that rewrites the parameters which a pattern selects."""

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
    """How one parameter W is rewritten.

    `init(key, W)` gives the parameter's own theta, float32, at which `apply(W, theta)`
    is W.
    """

    init: Callable[[Key, Leaf], Any]
    apply: Callable[[Leaf, Any], Leaf]


def weights(pattern: str, form: Form | None = None) -> Part:
    """The selected parameters in a form: `replace()` by default.

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
        return denoiser.replace(params=overwrite(denoiser.params, leaves))

    return Part(init, bind)


def drawn(pattern: str) -> Part:
    """The selected parameters themselves, trained from a random draw: from scratch.

    Kernels are uniform within 1 / sqrt(fan in), biases 0, scales 1, as
    torch's layers start but for the biases.
    """

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        leaves = select(params, pattern)
        keys = jax.random.split(key, len(leaves))
        return {
            path: _drawn(keys[i], path, leaf.shape)
            for i, (path, leaf) in enumerate(leaves.items())
        }

    return weights(pattern)._replace(init=init)


def _drawn(key: Key, path: str, shape: tuple[int, ...]) -> Leaf:
    if path.endswith("/scale"):
        return jnp.ones(shape)
    if len(shape) < 2:
        return jnp.zeros(shape)
    bound = 1 / math.sqrt(math.prod(shape[:-1]))
    return jax.random.uniform(key, shape, minval=-bound, maxval=bound)


def replace() -> Form:
    """The parameter itself, trained from its pretrained value."""

    def init(key: Key, leaf: Leaf) -> Leaf:
        # A copy also where the base is float32: the step donates theta's buffers.
        return jnp.array(leaf, jnp.float32)

    def apply(leaf: Leaf, theta: Leaf) -> Leaf:
        return theta

    return Form(init, apply)


def lora(rank: int, alpha: float | None = None) -> Form:
    """W + (alpha / rank) A B, Hu et al. 2021, eq. 3; alpha is the rank by default.

    A starts normal with deviation 1 / rank, B at 0. A convolution's A has its kernel's
    shape over `rank` channels and its B is 1x1. The product is formed anew in each
    step: one transient kernel, and the network need not know.
    """
    if rank < 1:
        raise ValueError(f"The rank {rank} of a low-rank update must be at least 1.")
    share = (rank if alpha is None else alpha) / rank

    def init(key: Key, leaf: Leaf) -> Theta:
        *before, outputs = leaf.shape
        return {
            "lora_A": jax.random.normal(key, (*before, rank), jnp.float32) / rank,
            "lora_B": jnp.zeros((rank, outputs), jnp.float32),
        }

    def apply(leaf: Leaf, theta: Theta) -> Leaf:
        update = share * jnp.einsum("...r,ro->...o", theta["lora_A"], theta["lora_B"])
        return (leaf.astype(jnp.float32) + update).astype(leaf.dtype)

    return Form(init, apply)

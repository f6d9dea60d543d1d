"""Muon for the matrices of theta, and Adam for everything else."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

_MOMENTUM = 0.95
# Steps have the root mean square of Adam's, so that learning rates carry over.
_RMS = 0.2
# The quintic x -> a x + b x^3 + c x^5 of Jordan et al. 2024.
_QUINTIC, _ITERATIONS = (3.4445, -4.7750, 2.0315), 5
# Inputs and outputs of a network are not hidden layers.
_ENDS = ("conv_in/kernel", "conv_out/kernel")


class MuonState(NamedTuple):
    """Moments of all leaves; the second one of a matrix is not used, and a scalar."""

    count: Int[Array, ""]
    mu: Any
    nu: Any


def scale_by_muon(b1: float, b2: float, eps: float) -> optax.GradientTransformation:
    """Orthogonalised momentum (Jordan et al. 2024) for kernels of hidden layers.

    A kernel is the matrix of its output channels and all its other axes. Steps have a
    root mean square of 0.2, as AdamW's have (Liu et al. 2025, sec. 2.2). Biases,
    norms, token embeddings, and the first and last convolution get Adam's steps.

    `optax.contrib.muon` splits the state into one per group of parameters; here it has
    the shape of theta, which shardings rely on.
    """

    def init(params: Any) -> MuonState:
        def second(path: tuple, leaf: Array) -> Array:
            return jnp.zeros(() if _is_hidden(path, leaf) else leaf.shape)

        mu = jax.tree.map(jnp.zeros_like, params)
        nu = jax.tree.map_with_path(second, params)
        return MuonState(jnp.zeros((), jnp.int32), mu, nu)

    def update(gradients: Any, state: MuonState, params: Any = None):
        count = optax.safe_increment(state.count)

        def step(path: tuple, g: Array, mu: Array, nu: Array) -> tuple[Array, ...]:
            if _is_hidden(path, g):
                mu = _MOMENTUM * mu + (1 - _MOMENTUM) * g
                ahead = _MOMENTUM * mu + (1 - _MOMENTUM) * g  # Nesterov
                return _orthogonal(ahead), mu, nu
            mu, nu = b1 * mu + (1 - b1) * g, b2 * nu + (1 - b2) * jnp.square(g)
            root = jnp.sqrt(nu / (1 - b2**count)) + eps
            return mu / (1 - b1**count) / root, mu, nu

        each = jax.tree.map_with_path(step, gradients, state.mu, state.nu)
        of_tuples = jax.tree.structure(gradients), jax.tree.structure((0, 0, 0))
        updates, mu, nu = jax.tree.transpose(*of_tuples, each)
        return updates, MuonState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def _is_hidden(path: tuple, leaf: Array) -> bool:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    is_kernel = name.endswith("kernel") and not name.endswith(_ENDS)
    return is_kernel and leaf.ndim >= 2


def _orthogonal(x: Float[Array, "*i o"]) -> Float[Array, "*i o"]:
    """U V^T of the matrix U S V^T, approximately: singular values of 0.7 to 1.2."""
    shape, a, b, c = x.shape, *_QUINTIC
    x = x.reshape(-1, shape[-1])
    is_tall = x.shape[0] > x.shape[1]
    x = x.T if is_tall else x
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(_ITERATIONS):
        square = x @ x.T
        x = a * x + (b * square + c * square @ square) @ x
    x = (x.T if is_tall else x).reshape(shape)
    return x * (_RMS * math.sqrt(max(math.prod(shape[:-1]), shape[-1])))

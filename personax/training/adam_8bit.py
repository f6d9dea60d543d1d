"""Adam with moments of 8 bits (Dettmers et al. 2022)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Int8, UInt8

from personax.core.typing import Key

# Smaller leaves, mostly biases, keep moments in float32.
LEAST = 4096
_POWER = 4  # of the codes, which are spaced wider the larger they are


class Moment(NamedTuple):
    """The moments of all leaves: codes in the leaves' shapes, and a scale per row.

    A small leaf has its float32 moments as codes, and a scale of 0.
    """

    codes: Any
    scales: Any


class Adam8bitState(NamedTuple):
    count: Int[Array, ""]
    mu: Moment
    nu: Moment


def scale_by_adam_8bit(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8, *, least: int = LEAST
) -> optax.GradientTransformation:
    """`optax.scale_by_adam` with moments in 8 bits between steps.

    As in Dettmers et al. 2022, each block has its own scale, and codes are spaced
    non-uniformly. Unlike there, a block is a row (the last axis), so that codes are
    sharded like their parameter; a code c of at most C stands for (c/C)^4 of the row's
    maximum, which needs no table; and rounding is stochastic, with keys from the number
    of the step. Rounded to the nearest code, a second moment would never decrease: it
    decays by a thousandth per step, and the spacing of codes is wider than that.
    `least` is the size from which leaves are coded.
    """

    def init(params: Any) -> Adam8bitState:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, jnp.float32), params)
        leaves, structure = jax.tree.flatten(zeros)
        moments = [
            _join(structure, [_encode(x, None, least, signed=each) for x in leaves])
            for each in (True, False)
        ]
        return Adam8bitState(jnp.zeros((), jnp.int32), *moments)

    def update(gradients: Any, state: Adam8bitState, params: Any = None):
        count = optax.safe_increment(state.count)
        key = jax.random.fold_in(jax.random.key(0), count)
        leaves, structure = jax.tree.flatten(gradients)
        old = [structure.flatten_up_to(x) for x in (*state.mu, *state.nu)]
        updates, mus, nus = [], [], []
        for i, (g, mc, ms, nc, ns) in enumerate(zip(leaves, *old, strict=True)):
            g = g.astype(jnp.float32)
            mu = b1 * decode(mc, ms) + (1 - b1) * g
            nu = b2 * decode(nc, ns) + (1 - b2) * jnp.square(g)
            unbiased = mu / (1 - b1**count), nu / (1 - b2**count)
            updates.append(unbiased[0] / (jnp.sqrt(unbiased[1]) + eps))
            own = jax.random.split(jax.random.fold_in(key, i))
            mus.append(_encode(mu, own[0], least, signed=True))
            nus.append(_encode(nu, own[1], least, signed=False))
        new = Adam8bitState(count, _join(structure, mus), _join(structure, nus))
        return structure.unflatten(updates), new

    return optax.GradientTransformation(init, update)


Codes = Int8[Array, "..."] | UInt8[Array, "..."] | Float[Array, "..."]


def encode(
    x: Float[Array, "... r"], key: Key | None, *, signed: bool
) -> tuple[Codes, Float[Array, "... 1"]]:
    """(codes, the maximum magnitude of each row).

    With a key rounding is stochastic, and the expected decoded value is x; without one
    it is down, in magnitude.
    """
    most = 127 if signed else 255
    scale = jnp.abs(x).max(axis=-1, keepdims=True)
    share = jnp.abs(x) / jnp.where(scale > 0, scale, 1)
    below = jnp.floor(most * share ** (1 / _POWER))
    if key is not None:
        low, high = (_value(below + i, most) for i in (0, 1))
        up = jax.random.uniform(key, x.shape) < (share - low) / (high - low)
        below = jnp.where(up, below + 1, below)
    codes = jnp.clip(below, 0, most)
    if signed:
        return (jnp.sign(x) * codes).astype(jnp.int8), scale
    return codes.astype(jnp.uint8), scale


def decode(codes: Codes, scale: Float[Array, "..."]) -> Float[Array, "..."]:
    """The values of codes."""
    if jnp.issubdtype(codes.dtype, jnp.floating):
        return codes
    most = 127 if codes.dtype == jnp.int8 else 255
    values = codes.astype(jnp.float32)
    return jnp.sign(values) * _value(jnp.abs(values), most) * scale


def _value(code: Float[Array, "..."], most: int) -> Float[Array, "..."]:
    return (code / most) ** _POWER


def _encode(x: Array, key: Key | None, least: int, *, signed: bool):
    if x.size < least:
        return x, jnp.zeros((1,) * x.ndim, jnp.float32)
    return encode(x, key, signed=signed)


def _join(structure: Any, pairs: list) -> Moment:
    codes, scales = zip(*pairs, strict=True) if pairs else ((), ())
    return Moment(structure.unflatten(codes), structure.unflatten(scales))

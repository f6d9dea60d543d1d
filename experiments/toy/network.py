"""A small conditional score network, the plane's counterpart of a UNet.

Every layer reads its condition through its own projection `to_v`, as cross-attention to
a single word does: softmax over one key is 1, so there are no attention maps, and
Infusion's frozen stream has nothing to provide.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from experiments.toy.peaks import Points, Times
from personax.core.typing import Key, Params
from personax.networks.layers import dense, init_dense, time_embedding

_TIMES = 32  # features of a time
_TURN = 100.0  # phase of the fastest of them at t = 1, in radians
_WAVES = 64  # Fourier features of a point
_STEEPNESS = 2.0  # standard deviation of their frequencies, radians per unit


def velocity(
    params: Params, x: Points, t: Times, condition: Int[Array, " b"]
) -> Points:
    """The predicted `peaks.target` of noised points.

    `condition` indexes the rows of `conditions/embedding`; the index after the last is
    the concept V*, the only one that uses `concept/embedding` and the `residual`s.
    """
    table = params["conditions"]["embedding"]
    word = jnp.concatenate([table, params["concept"]["embedding"]])[condition]
    is_concept = (condition == len(table))[:, None]
    times = time_embedding(t * _TURN, _TIMES)
    waves = dense(params["waves"], x)
    h = dense(params["input"], jnp.concatenate([x, jnp.sin(waves)], axis=1))
    for layer in params["layers"].values():
        value = dense(layer["to_v"], word)
        value = jnp.where(is_concept, value + layer["residual"][None], value)
        inner = dense(layer["enter"], h) + dense(layer["time"], times) + value
        h = h + dense(layer["leave"], jax.nn.silu(inner))
    return dense(params["output"], jax.nn.silu(h))


@partial(jax.jit, static_argnames=("conditions", "width", "layers", "embedding"))
def init_network(
    key: Key, *, conditions: int, width: int, layers: int, embedding: int
) -> Params:
    """Random parameters; the concept's row and the residuals start at zero."""
    waves, first, last, table, *keys = jax.random.split(key, 4 + layers)
    return {
        "waves": _init_waves(waves),
        "input": init_dense(first, 2 + _WAVES, width),
        "layers": {str(i): _layer(k, width, embedding) for i, k in enumerate(keys)},
        "output": init_dense(last, width, 2),
        "conditions": {"embedding": jax.random.normal(table, (conditions, embedding))},
        "concept": {"embedding": jnp.zeros((1, embedding))},
    }


def with_concept(params: Params, condition: int) -> Params:
    """The network with V* initialised as a copy of one of its conditions."""
    row = params["conditions"]["embedding"][condition : condition + 1]
    return {**params, "concept": {"embedding": row}}


def _init_waves(key: Key) -> Params:
    """Random Fourier features (Tancik et al. 2020), trained like the other weights.

    Without them the error on 25 peaks is several times larger.
    """
    kernel, bias = jax.random.split(key)
    return {
        "kernel": _STEEPNESS * jax.random.normal(kernel, (2, _WAVES)),
        "bias": jax.random.uniform(bias, (_WAVES,), maxval=2 * jnp.pi),
    }


def _layer(key: Key, width: int, embedding: int) -> Params:
    enter, time, to_v, leave = jax.random.split(key, 4)
    return {
        "enter": init_dense(enter, width, width),
        "time": init_dense(time, _TIMES, width, bias=False),
        "to_v": init_dense(to_v, embedding, width, bias=False),
        "residual": jnp.zeros(width),
        "leave": init_dense(leave, width, width),
    }

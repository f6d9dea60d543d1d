"""Dense, convolution, norms and time embedding, each with its `init_`.

A layer is a function of (its parameters, its input). The input's dtype is the compute
dtype: parameters are cast to it where they are used. Leaves are named `kernel`
((in, out) or HWIO), `bias`, `scale` and `embedding`.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.core.typing import Key, Params
from personax.networks.compute import Compute
from personax.networks.convolution import convolve


def dense(params: Params, x: Float[Array, "... i"]) -> Float[Array, "... o"]:
    """x W + b, the bias optional."""
    y = x @ params["kernel"].astype(x.dtype)
    return _add_bias(params, y)


def init_dense(key: Key, inputs: int, outputs: int, *, bias: bool = True) -> Params:
    return _init_kernel(key, (inputs, outputs), inputs, bias)


def conv(
    params: Params,
    x: Float[Array, "b h w i"],
    *,
    stride: int = 1,
    padding: int | tuple[tuple[int, int], tuple[int, int]] | None = None,
    compute: Compute = Compute(),
) -> Float[Array, "b h2 w2 o"]:
    """A convolution with an HWIO kernel; by default zero-padded to keep the size."""
    kernel = params["kernel"].astype(x.dtype)
    pads = kernel.shape[0] // 2 if padding is None else padding
    if isinstance(pads, int):
        pads = ((pads, pads), (pads, pads))
    return _add_bias(params, convolve(x, kernel, stride, pads, compute=compute))


def init_conv(key: Key, size: int, inputs: int, outputs: int) -> Params:
    return _init_kernel(key, (size, size, inputs, outputs), size * size * inputs, True)


def group_norm(
    params: Params, x: Float[Array, "b *hw c"], *, groups: int, eps: float
) -> Float[Array, "b *hw c"]:
    """Group normalisation over space and c/groups channels, accumulated in float32."""
    shape, c = x.shape, x.shape[-1]
    y = x.astype(jnp.float32).reshape(shape[0], -1, groups, c // groups)
    mean = y.mean((1, 3), keepdims=True)
    variance = jnp.square(y - mean).mean((1, 3), keepdims=True)
    y = ((y - mean) * jax.lax.rsqrt(variance + eps)).reshape(shape)
    return _scale_shift(params, y).astype(x.dtype)


def layer_norm(
    params: Params, x: Float[Array, "... c"], *, eps: float = 1e-5
) -> Float[Array, "... c"]:
    """Layer normalisation over the last axis, accumulated in float32."""
    y = x.astype(jnp.float32)
    mean = y.mean(-1, keepdims=True)
    variance = jnp.square(y - mean).mean(-1, keepdims=True)
    y = (y - mean) * jax.lax.rsqrt(variance + eps)
    return _scale_shift(params, y).astype(x.dtype)


def init_norm(width: int) -> Params:
    return {"scale": jnp.ones(width), "bias": jnp.zeros(width)}


def time_embedding(
    t: Float[Array, " b"], width: int, *, flip: bool = True, shift: float = 0.0
) -> Float[Array, "b width"]:
    """Sinusoidal embedding of the timestep, float32 (Vaswani et al. 2017, sec. 3.5).

    `flip` puts cosines first and `shift` moves the slowest frequency, as diffusers'
    `flip_sin_to_cos` and `freq_shift` do. An odd width ends with a zero.
    """
    half = width // 2
    rates = jnp.exp(
        -math.log(10000) * jnp.arange(half, dtype=jnp.float32) / (half - shift)
    )
    angles = t.astype(jnp.float32)[:, None] * rates[None]
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    embedding = jnp.concatenate([cos, sin] if flip else [sin, cos], axis=-1)
    return jnp.pad(embedding, ((0, 0), (0, width % 2)))


def upsample(
    x: Float[Array, "b h w c"], size: tuple[int, int] | None = None
) -> Float[Array, "b h2 w2 c"]:
    """Nearest-neighbour enlargement, by default to twice the size."""
    b, h, w, c = x.shape
    if size is None or size == (2 * h, 2 * w):
        y = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
        return y.reshape(b, 2 * h, 2 * w, c)
    # Odd sizes: torch's rule, row i of the output is row floor(i h / h2) of the input.
    rows = jnp.arange(size[0]) * h // size[0]
    columns = jnp.arange(size[1]) * w // size[1]
    return x[:, rows][:, :, columns]


def keys_for(key: Key, *names: str) -> dict[str, Key]:
    """One key per name."""
    return dict(zip(names, jax.random.split(key, len(names)), strict=True))


def _init_kernel(key: Key, shape: tuple[int, ...], fan_in: int, bias: bool) -> Params:
    # Uniform in +-1/sqrt(fan in), as torch's layers.
    bound = 1 / math.sqrt(fan_in)
    kernel_key, bias_key = jax.random.split(key)
    params = {
        "kernel": jax.random.uniform(kernel_key, shape, minval=-bound, maxval=bound)
    }
    if bias:
        params["bias"] = jax.random.uniform(
            bias_key, shape[-1:], minval=-bound, maxval=bound
        )
    return params


def _add_bias(params: Params, y: Float[Array, "*rest o"]) -> Float[Array, "*rest o"]:
    if "bias" not in params:
        return y
    bias = params["bias"].astype(y.dtype)
    return y + bias.reshape((1,) * (y.ndim - 1) + bias.shape)


def _scale_shift(params: Params, y: Float[Array, "*rest c"]) -> Float[Array, "*rest c"]:
    shape = (1,) * (y.ndim - 1) + (y.shape[-1],)
    scale = params["scale"].astype(jnp.float32).reshape(shape)
    return y * scale + params["bias"].astype(jnp.float32).reshape(shape)

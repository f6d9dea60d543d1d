"""Convolution, by the kernel that suits its shape and the platform."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from personax.networks.compute import Compute

Padding = tuple[tuple[int, int], tuple[int, int]]

# Up to this size (96 to 192 channels), XLA's convolution was measured as fast.
_LARGE_KERNEL = 2**20


def convolve(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int,
    padding: Padding,
    *,
    compute: Compute = Compute(),
) -> Float[Array, "b h2 w2 o"]:
    """`x` cross-correlated with an HWIO kernel of the same dtype."""
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == ((0, 0), (0, 0)):
        return x @ kernel[0, 0]
    chosen = compute.convolution
    if chosen == "auto":
        chosen = pick_convolution(x.shape, kernel.shape, stride, compute.target())
    if chosen == "matmul":
        return _convolve_matmul(x, kernel, stride, padding)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        (stride, stride),
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def pick_convolution(
    shape: tuple[int, ...], kernel_shape: tuple[int, ...], stride: int, platform: str
) -> Literal["xla", "matmul"]:
    """The kernel for an image "b h w i" and weights "kh kw i o".

    On CPU, one matrix product over gathered patches took half the time of XLA's
    convolution at 16x16 and 8x8 with 1280 and 2560 channels, and more time at 32x32
    and 64x64 (batch 1, forward, float32); the threshold, fewer output pixels
    than output channels, is a guess that fits these.
    """
    b, h, w, _ = shape
    kh, kw, inputs, outputs = kernel_shape
    pixels = b * -(-h // stride) * -(-w // stride)
    large = kh * kw * inputs * outputs > _LARGE_KERNEL
    return "matmul" if platform == "cpu" and large and pixels <= outputs else "xla"


def _convolve_matmul(
    x: Float[Array, "b h w i"],
    kernel: Float[Array, "kh kw i o"],
    stride: int,
    padding: Padding,
) -> Float[Array, "b h2 w2 o"]:
    """The patches under the kernel as rows of a matrix, times the kernel as one."""
    kh, kw, inputs, outputs = kernel.shape
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    rows = (padded.shape[1] - kh) // stride + 1
    columns = (padded.shape[2] - kw) // stride + 1
    taps = [
        padded[
            :,
            i : i + stride * (rows - 1) + 1 : stride,
            j : j + stride * (columns - 1) + 1 : stride,
        ]
        for i in range(kh)
        for j in range(kw)
    ]
    patches = jnp.concatenate(taps, axis=-1)
    return patches @ kernel.reshape(kh * kw * inputs, outputs)

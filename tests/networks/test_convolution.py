"""Every convolution kernel gives XLA's numbers, and the choice is the measured one."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from personax.networks.compute import Compute
from personax.networks.convolution import convolve, pick_convolution

XLA, MATMUL = Compute(convolution="xla"), Compute(convolution="matmul")
SAME = ((1, 1), (1, 1))


def arrays(shape, kernel_shape, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0))
    fan_in = kernel_shape[0] * kernel_shape[1] * kernel_shape[2]
    kernel = jax.random.normal(keys[1], kernel_shape) * fan_in**-0.5
    return jax.random.normal(keys[0], shape).astype(dtype), kernel.astype(dtype)


CASES = {
    "same": ((2, 8, 8, 6), (3, 3, 6, 5), 1, SAME),
    "odd": ((1, 7, 5, 3), (3, 3, 3, 4), 1, SAME),
    "stride": ((2, 8, 8, 4), (3, 3, 4, 4), 2, SAME),
    "odd stride": ((1, 7, 9, 4), (3, 3, 4, 2), 2, SAME),
    "asymmetric": ((1, 8, 8, 4), (3, 3, 4, 2), 2, ((0, 1), (0, 1))),
    "pixel": ((1, 4, 4, 4), (1, 1, 4, 2), 1, ((0, 0), (0, 0))),
    "pixel stride": ((1, 5, 5, 4), (1, 1, 4, 2), 2, ((0, 0), (0, 0))),
    "pixel padded": ((1, 4, 4, 4), (1, 1, 4, 2), 1, SAME),
    "patches": ((1, 9, 8, 3), (4, 4, 3, 2), 4, ((0, 0), (0, 0))),
}


def reference(x, kernel, stride, padding):
    layout = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=layout
    )


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_kernels_and_gradients_equal_xlas_convolution(case):
    # 1e-5 of values and gradients that are of order one: another order of summation.
    shape, kernel_shape, stride, padding = case
    x, kernel = arrays(shape, kernel_shape)

    def loss(f):
        return jax.jit(
            jax.value_and_grad(lambda x, k: jnp.sum(jnp.sin(f(x, k))), (0, 1))
        )

    expected = reference(x, kernel, stride, padding)
    wanted = loss(lambda x, k: reference(x, k, stride, padding))(x, kernel)
    for compute in (XLA, MATMUL):

        def run(x, k, compute=compute):
            return convolve(x, k, stride, padding, compute=compute)

        assert jnp.allclose(run(x, kernel), expected, rtol=1e-5, atol=1e-5)
        for got, want in zip(
            jax.tree.leaves(loss(run)(x, kernel)), jax.tree.leaves(wanted), strict=True
        ):
            assert jnp.allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_keeps_its_dtype_and_accumulates_wide(dtype):
    # 2 % of order one: the result is rounded to 1/256, its 576 summands are not.
    x, kernel = arrays((1, 6, 6, 64), (3, 3, 64, 8), dtype)
    wide = reference(x.astype(jnp.float32), kernel.astype(jnp.float32), 1, SAME)
    for compute in (XLA, MATMUL):
        y = convolve(x, kernel, 1, SAME, compute=compute)
        assert y.dtype == dtype
        assert jnp.allclose(y.astype(jnp.float32), wide, rtol=0.02, atol=0.02)


def test_matmul_kernel_works_under_vmap_and_scan():
    x, kernel = arrays((3, 2, 4, 4, 5), (3, 3, 5, 5))

    def run(x):
        return convolve(x, kernel, 1, SAME, compute=MATMUL)

    each = jnp.stack([run(image) for image in x])
    scanned = jax.lax.scan(lambda _, image: (None, run(image)), None, x)[1]
    assert jnp.allclose(jax.vmap(run)(x), each, atol=1e-6)
    assert jnp.allclose(scanned, each, atol=1e-6)


@pytest.mark.parametrize(
    ("side", "inputs", "outputs", "kernel"),
    [
        (64, 320, 320, "xla"),
        (64, 960, 320, "xla"),
        (32, 640, 640, "xla"),
        (32, 1920, 640, "xla"),
        (16, 1280, 1280, "matmul"),
        (16, 2560, 1280, "matmul"),
        (8, 1280, 1280, "matmul"),
        (8, 2560, 1280, "matmul"),
        (8, 96, 96, "xla"),
        (4, 192, 192, "xla"),
    ],
)
def test_cpu_takes_the_kernel_that_measured_faster(side, inputs, outputs, kernel):
    shape, weights = (1, side, side, inputs), (3, 3, inputs, outputs)
    assert pick_convolution(shape, weights, 1, "cpu") == kernel
    assert pick_convolution(shape, weights, 1, "gpu") == "xla"
    assert pick_convolution(shape, weights, 1, "tpu") == "xla"


def test_the_choice_counts_output_pixels():
    weights = (3, 3, 1280, 1280)
    assert pick_convolution((2, 32, 32, 1280), weights, 1, "cpu") == "xla"
    assert pick_convolution((2, 32, 32, 1280), weights, 2, "cpu") == "matmul"


def test_the_compute_entry_overrides_the_choice():
    x = jax.ShapeDtypeStruct((1, 8, 8, 512), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, 512, 512), jnp.float32)

    def convolutions(**entries):
        compute = dataclasses.replace(Compute(platform="cpu"), **entries)
        traced = jax.make_jaxpr(lambda x, k: convolve(x, k, 1, SAME, compute=compute))
        return str(traced(x, kernel)).count("conv_general_dilated[")

    assert convolutions() == 0
    assert convolutions(convolution="xla") == 1
    assert convolutions(platform="gpu") == 1
    assert convolutions(platform="gpu", convolution="matmul") == 0

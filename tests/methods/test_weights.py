"""Reparameterised weights: the forms' formulas, and the papers' counts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.core.tree import count
from personax.diffusion.denoiser import Denoiser
from personax.methods.parts.base import Concept
from personax.methods.parts.weights import drawn, lora, replace, weights
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.unet import UNetConfig, init_unet
from tests.small_configs import SMALLEST_PIPELINE

pytestmark = pytest.mark.quick


def moved(form, leaf, seed=0):
    """The form's theta with random values."""
    theta = form.init(jax.random.key(seed), leaf)
    keys = iter(jax.random.split(jax.random.key(seed + 1), 2))
    return jax.tree.map(lambda x: jax.random.normal(next(keys), x.shape), theta)


@pytest.mark.parametrize("alpha", [None, 6.0])
def test_a_low_rank_update_of_a_linear_kernel(alpha):
    W = jax.random.normal(jax.random.key(9), (7, 5))
    form = lora(2, alpha)
    theta = moved(form, W)
    A, B = np.asarray(theta["lora_A"]), np.asarray(theta["lora_B"])
    assert (A.shape, B.shape) == ((7, 2), (2, 5))
    want = W + (1 if alpha is None else 3) * A @ B
    np.testing.assert_allclose(form.apply(W, theta), want, rtol=1e-5, atol=1e-6)


def test_a_low_rank_convolution_is_a_narrow_and_a_1x1_convolution():
    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    W = jax.random.normal(jax.random.key(9), (3, 3, 4, 5))
    x = jax.random.normal(jax.random.key(8), (2, 6, 6, 4))
    form = lora(2, 6.0)
    theta = moved(form, W)
    A, B = theta["lora_A"], theta["lora_B"]
    assert A.shape == (3, 3, 4, 2)
    want = conv(x, W) + 3 * conv(conv(x, A), B[None, None])
    ours = conv(x, form.apply(W, theta))
    np.testing.assert_allclose(ours, want, rtol=1e-4, atol=1e-4)


def test_a_low_rank_update_starts_at_zero_with_the_papers_deviation():
    W = jnp.zeros((300, 200))
    theta = lora(4).init(jax.random.key(0), W)
    assert not np.asarray(theta["lora_B"]).any()
    assert float(theta["lora_A"].std()) == pytest.approx(1 / 4, rel=0.05)
    np.testing.assert_array_equal(lora(4).apply(W, theta), W)


@pytest.mark.parametrize("rank", [0, -1])
def test_a_rank_below_one_is_refused(rank):
    with pytest.raises(ValueError, match=f"The rank {rank} .* at least 1"):
        lora(rank)


def test_a_bfloat16_base_has_a_float32_theta_and_keeps_its_dtype():
    W = jax.random.normal(jax.random.key(9), (7, 5)).astype(jnp.bfloat16)
    theta = moved(lora(2), W)
    assert {leaf.dtype for leaf in theta.values()} == {jnp.dtype("float32")}
    ours = lora(2).apply(W, theta)
    assert ours.dtype == jnp.bfloat16
    # Added in float32, rounded once.
    want = W.astype(jnp.float32) + theta["lora_A"] @ theta["lora_B"]
    np.testing.assert_array_equal(ours, want.astype(jnp.bfloat16))
    assert replace().init(jax.random.key(0), W).dtype == jnp.float32


def test_a_replaced_parameter_is_a_copy_of_its_own():
    W = jnp.ones((3, 2))
    theta = replace().init(jax.random.key(0), W)
    assert theta.unsafe_buffer_pointer() != W.unsafe_buffer_pointer()
    np.testing.assert_array_equal(replace().apply(W, theta), W)
    np.testing.assert_array_equal(replace().apply(W, 2 * theta), 2 * W)


def test_only_selected_parameters_change():
    params = {"unet": {"a": {"kernel": jnp.ones((2, 2))}, "b": {"bias": jnp.ones(2)}}}
    part = weights("unet/a/kernel")
    theta = part.init(jax.random.key(0), params, [])
    assert list(theta) == ["unet/a/kernel"]
    bound = part.bind(Denoiser(params), {"unet/a/kernel": jnp.zeros((2, 2))})
    assert not np.asarray(bound.params["unet"]["a"]["kernel"]).any()
    assert bound.params["unet"]["b"]["bias"] is params["unet"]["b"]["bias"]
    assert np.asarray(params["unet"]["a"]["kernel"]).all()


def test_from_scratch_does_not_depend_on_the_base():
    config = UNetConfig.from_json(SMALLEST_PIPELINE["unet"])
    shapes = jax.eval_shape(lambda: init_unet(jax.random.key(0), config))
    params = {"unet": jax.tree.map(lambda x: jnp.full(x.shape, 7.0), shapes)}
    theta = drawn("unet").init(jax.random.key(0), params, [])
    assert count(theta) == count(params)
    assert not any((leaf == 7).any() for leaf in theta.values())
    kernel = theta["unet/time_embedding/linear_1/kernel"]
    assert float(kernel.std()) == pytest.approx((1 / 8 / 3) ** 0.5, rel=0.15)
    assert (theta["unet/conv_norm_out/scale"] == 1).all()
    bound = drawn("unet").bind(Denoiser(params), theta)
    assert bound.params["unet"]["conv_in"]["bias"] is theta["unet/conv_in/bias"]


@pytest.mark.parametrize(
    ("name", "arguments", "numbers"),
    [
        ("custom_diffusion", {}, {"weights": 19_169_280, "tokens": 768}),
        (
            "custom_diffusion",
            {"train": "cross_attention"},
            {"weights": 43_962_560, "tokens": 768},
        ),
        ("custom_diffusion", {"words": False}, {"weights": 19_169_280}),
        ("lora", {}, {"lora": 797_184}),
        ("dreambooth", {}, {"weights": 859_520_964}),
        (
            "dreambooth",
            {"text_encoder": True},
            {"weights": 859_520_964, "text_encoder": 123_060_480},
        ),
        ("textual_inversion", {}, {"tokens": 768}),
    ],
)
def test_the_number_of_parameters_on_sd15(name, arguments, numbers):
    method = methods.make(name, **arguments)
    concepts = [Concept("<v1>", "dog", (49408,), (42170,), "<v1> dog")]

    def start():
        key = jax.random.key(0)
        params = {
            "unet": init_unet(key, UNetConfig()),
            "text_encoder": init_clip_text(key, CLIPTextConfig()),
        }
        return methods.init(method, key, params, concepts)

    theta = jax.eval_shape(start)
    assert {part: count(leaves) for part, leaves in theta.items()} == numbers

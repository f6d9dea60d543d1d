"""SVDiff: shifted singular values against numpy's SVD in torch's layout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.core.tree import count, flat, nest
from personax.diffusion.denoiser import Denoiser
from personax.methods.svdiff import factor, shift
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.unet import UNetConfig, init_unet

pytestmark = pytest.mark.quick


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dense(matrix, delta):
    """U diag(relu(sigma + delta)) V', float64."""
    u, s, vh = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return u @ np.diag(np.maximum(s + delta, 0)) @ vh


@pytest.mark.parametrize("shape", [(5, 7), (7, 5), (3, 3, 4, 6), (1, 1, 4, 6)])
def test_a_kernel_with_shifted_singular_values(shape):
    W = random(*shape)
    delta = random(min(W.size // shape[-1], shape[-1]), seed=1)
    delta[-1] = -9  # below -sigma: clamped
    ours = np.asarray(shift(jnp.asarray(W), factor(W), jnp.asarray(delta)))
    # torch's layout, (co, ci * kh * kw), as the paper reshapes a convolution.
    order = (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
    torch = np.transpose(W, order).reshape(shape[-1], -1)
    want = dense(torch, delta)
    ours = np.transpose(ours, order).reshape(shape[-1], -1)
    np.testing.assert_allclose(ours, want, atol=1e-5)
    values = np.linalg.svd(ours, compute_uv=False)
    assert values[-1] < 1e-5


def test_a_vector_is_one_row_and_keeps_its_direction():
    W = random(6)
    for delta, length in ((0.5, np.linalg.norm(W) + 0.5), (-99.0, 0)):
        ours = shift(jnp.asarray(W), factor(W), jnp.asarray([delta]))
        np.testing.assert_allclose(ours, dense(W[None], delta)[0], atol=1e-6)
        assert np.linalg.norm(ours) == pytest.approx(length, abs=1e-6)


def test_a_vector_of_zeros_is_unchanged():
    W = np.zeros(6, np.float32)
    np.testing.assert_array_equal(shift(jnp.asarray(W), factor(W), jnp.ones(1)), W)


def test_a_zero_shift_is_bitwise_the_parameter():
    for W in (jnp.asarray(random(9, 8)), jnp.asarray(random(9, 8), jnp.bfloat16)):
        ours = shift(W, factor(np.asarray(W)), jnp.zeros(8))
        assert ours.dtype == W.dtype
        np.testing.assert_array_equal(ours, W)


LEAVES = {
    "unet/a/kernel": jnp.asarray(random(3, 4)),
    "unet/a/bias": jnp.asarray(random(4, seed=1)),
    "unet/norm/scale": jnp.asarray(random(4, seed=2)),
    "text_encoder/a/kernel": jnp.asarray(random(4, 4, seed=3)),
}


def theta_of(method, value=0.1):
    theta = methods.init(method, jax.random.key(0), nest(LEAVES), [])
    return jax.tree.map(lambda x: x + value, theta)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            {},
            {
                "weights": {"unet/a/kernel"},
                "vectors": {"unet/a/bias", "unet/norm/scale"},
            },
        ),
        ({"vectors": False}, {"weights": {"unet/a/kernel"}}),
        (
            {"vectors": False, "text_encoder": True},
            {"weights": {"unet/a/kernel"}, "text_encoder": {"text_encoder/a/kernel"}},
        ),
    ],
)
def test_which_parameters_each_part_shifts(arguments, parts):
    method = methods.make("svdiff", **arguments)
    theta = theta_of(method)
    assert {part: set(leaves) for part, leaves in theta.items()} == parts
    denoiser = methods.prepare(method, Denoiser(nest(LEAVES)))
    bound = flat(methods.bind(method, denoiser, theta).params)
    changed = {path for path, leaf in LEAVES.items() if (leaf != bound[path]).any()}
    assert changed == set().union(*parts.values())


def test_the_scale_multiplies_every_shift():
    once, twice = (methods.make("svdiff", scale=scale) for scale in (1.0, 2.0))
    denoiser = methods.prepare(once, Denoiser(nest(LEAVES)))
    ours = methods.bind(twice, denoiser, theta_of(twice, 0.1)).params
    want = methods.bind(once, denoiser, theta_of(once, 0.2)).params
    jax.tree.map(np.testing.assert_array_equal, ours, want)


def test_a_denoiser_that_was_not_prepared_is_refused():
    method = methods.make("svdiff")
    with pytest.raises(ValueError, match="no prepared 'svd'"):
        methods.bind(method, Denoiser(nest(LEAVES)), theta_of(method))


def start(**arguments):
    def init():
        key = jax.random.key(0)
        params = {
            "unet": init_unet(key, UNetConfig()),
            "text_encoder": init_clip_text(key, CLIPTextConfig()),
        }
        return params, methods.init(
            methods.make("svdiff", **arguments), key, params, []
        )

    return jax.eval_shape(init)


def test_the_number_of_parameters_on_sd15():
    params, theta = start()
    shapes = [leaf.shape for leaf in flat(params["unet"]).values()]
    rest = [int(np.prod(shape[:-1])) for shape in shapes]
    numbers = {
        "weights": sum(
            min(shape[-1], rows)
            for shape, rows in zip(shapes, rest, strict=True)
            if len(shape) > 1
        ),
        "vectors": sum(len(shape) == 1 for shape in shapes),
    }
    assert {part: count(leaves) for part, leaves in theta.items()} == numbers
    assert numbers == {"weights": 222_696, "vectors": 404}

"""OFT: rotations preserve lengths and angles; COFT bounds them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personax import methods
from personax.core.tree import count
from personax.diffusion.denoiser import Denoiser
from personax.methods.losses import Batch
from personax.methods.oft import bound, cayley, rotation, skew
from personax.networks.unet import UNetConfig, init_unet

pytestmark = pytest.mark.quick


def random(*shape, seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(scale * rng.standard_normal(shape), jnp.float32)


@settings(max_examples=15)
@given(
    st.integers(0, 99), st.sampled_from([1, 2, 3]), st.sampled_from([0.01, 1.0, 9.0])
)
def test_lengths_and_angles_of_the_neurons_are_kept(seed, blocks, scale):
    W = random(6, 5, seed=seed)
    X = random(blocks, 6 // blocks, 6 // blocks, seed=seed + 1, scale=scale)
    turned = rotation(blocks).apply(W, X)
    np.testing.assert_allclose(turned.T @ turned, W.T @ W, rtol=1e-4, atol=1e-4)
    if blocks < 3 or scale > 0.01:
        assert np.abs(turned - W).max() > 1e-4


def test_it_is_a_dense_block_diagonal_matrix_on_the_inputs():
    W, X = random(6, 5), random(2, 3, 3, seed=1)
    R = np.zeros((6, 6))
    for i, x in enumerate(np.asarray(X, np.float64)):
        Q = (x - x.T) / 2
        block = (np.eye(3) + Q) @ np.linalg.inv(np.eye(3) - Q)
        R[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] = block
    np.testing.assert_allclose(rotation(2).apply(W, X), R @ W, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [0.0, 0.1, 1.0, 30.0])
def test_the_cayley_map_and_its_gradient_are_the_linear_systems(scale):
    X, weight = random(2, 6, 6, scale=scale), random(2, 6, 6, seed=1)

    def solved(X):
        Q, I = skew(X), jnp.eye(6)[None]  # noqa: E741
        return jnp.linalg.solve(I - Q, I + Q)

    np.testing.assert_allclose(cayley(X), solved(X), atol=1e-4)
    ours = jax.grad(lambda X: (cayley(X) * weight).sum())(X)
    want = jax.grad(lambda X: (solved(X) * weight).sum())(X)
    np.testing.assert_allclose(ours, want, atol=1e-3)


def test_a_bfloat16_base_keeps_its_dtype_under_a_float32_theta():
    W = random(6, 5).astype(jnp.bfloat16)
    form = rotation(2)
    theta = form.init(jax.random.key(0), W)
    assert theta.dtype == jnp.float32
    assert form.apply(W, theta).dtype == jnp.bfloat16
    np.testing.assert_array_equal(form.apply(W, theta), W)


@pytest.mark.parametrize("scale", [1e-5, 0.1, 10.0])
@pytest.mark.parametrize("eps", [1e-3, 0.5])
def test_coft_keeps_r_within_eps_of_the_identity(scale, eps):
    X = random(3, 4, 4, scale=scale)
    near = bound(X, eps)
    distance = float(jnp.linalg.norm(cayley(near) - jnp.eye(4)[None]))
    assert distance <= eps * (1 + 1e-4)
    if 2 * np.linalg.norm(skew(X)) > eps:
        # No further in than it must: the bound is met up to eps^3.
        assert distance == pytest.approx(eps, rel=0.3 * eps**2 + 1e-4)
    else:
        np.testing.assert_array_equal(near, X)


def test_each_step_of_coft_ends_within_eps():
    method = methods.make("oft", blocks=2, eps=0.1)
    X = random(2, 4, 4)
    base, batch = Denoiser({}), Batch(None, None)
    theta = methods.after(method, base, {"oft": {"a": X, "b": 0 * X}}, batch)
    np.testing.assert_array_equal(theta["oft"]["a"], bound(X, 0.1))
    assert not np.asarray(theta["oft"]["b"]).any()
    free = methods.make("oft", blocks=2)
    assert methods.after(free, base, {"oft": {"a": X}}, batch)["oft"]["a"] is X


def test_blocks_that_do_not_divide_a_kernel_are_refused():
    with pytest.raises(ValueError, match="6 inputs are not divisible into 4 blocks"):
        rotation(4).init(jax.random.key(0), jnp.zeros((6, 5)))
    with pytest.raises(ValueError, match="blocks=0: expected a value >= 1"):
        methods.make("oft", blocks=0)
    with pytest.raises(ValueError, match=r"eps=-1\.0: expected a value >= 0"):
        methods.make("oft", eps=-1.0)


def test_the_number_of_parameters_on_sd15():
    def start():
        key = jax.random.key(0)
        params = {"unet": init_unet(key, UNetConfig())}
        return methods.init(methods.make("oft"), key, params, [])

    assert count(jax.eval_shape(start)) == 23_304_192

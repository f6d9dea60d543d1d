"""Adam with 8-bit moments: the error of codes, and the result of training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from personax.training.adam_8bit import decode, encode, scale_by_adam_8bit
from personax.training.config import OptimizerConfig
from personax.training.optimizer import make_optimizer
from personax.training.sharding import make_mesh, of_state
from personax.training.state import create

pytestmark = pytest.mark.quick


def normal(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize("signed", [True, False])
def test_the_error_of_a_code_is_less_than_the_gap_between_codes(signed):
    x = normal(8, 512) if signed else jnp.square(normal(8, 512))
    codes, scale = encode(x, jax.random.key(1), signed=signed)
    assert codes.dtype == (jnp.int8 if signed else jnp.uint8)
    assert codes.shape == x.shape
    assert scale.shape == (8, 1)
    most = 127 if signed else 255
    share = np.abs(np.asarray(x)) / np.asarray(scale)
    code = np.floor(most * share**0.25)
    gap = ((code + 1) / most) ** 4 - (code / most) ** 4
    error = np.abs(np.asarray(decode(codes, scale) - x)) / np.asarray(scale)
    assert (error <= gap + 1e-6).all()
    assert error.max() > 1e-3


def test_rounding_is_unbiased():
    x = normal(1, 64)
    keys = jax.random.split(jax.random.key(1), 4000)
    drawn = jax.vmap(lambda key: decode(*encode(x, key, signed=True)))(keys)
    deviation = np.asarray(drawn.std(axis=0)) / np.sqrt(len(keys))
    assert (np.abs(drawn.mean(axis=0) - x) <= 5 * deviation + 1e-6).all()


def test_a_second_moment_decays_without_gradients():
    theta = {"w": jnp.zeros((8, 512))}
    tx = scale_by_adam_8bit(b2=0.99)
    step = jax.jit(lambda g, state: tx.update(g, state)[1])
    state = tx.init(theta)
    for scale in (1.0,) * 20 + (0.0,) * 200:
        state = step({"w": scale * jnp.ones((8, 512))}, state)
    nu = decode(state.nu.codes["w"], state.nu.scales["w"])
    expected = (1 - 0.99**20) * 0.99**200
    assert float(nu.mean()) == pytest.approx(expected, rel=0.05)


def test_training_follows_adam():
    target, x = normal(512, 16), normal(64, 512, seed=1) / 23

    def train(tx):
        theta = jnp.zeros((512, 16))

        def loss(theta):
            return jnp.square(x @ (theta - target)).mean()

        def step(loop, _):
            theta, state = loop
            updates, state = tx.update(jax.grad(loss)(theta), state, theta)
            theta = optax.apply_updates(theta, updates)
            return (theta, state), loss(theta)

        return jax.lax.scan(step, (theta, tx.init(theta)), None, length=300)

    rate = optax.scale_by_learning_rate(1e-2)
    (ours, state), losses = train(optax.chain(scale_by_adam_8bit(), rate))
    (theirs, _), exact = train(optax.chain(optax.scale_by_adam(), rate))
    assert state[0].mu.codes.dtype == jnp.int8
    assert losses[-1] < 0.02 * losses[0]
    np.testing.assert_allclose(losses[:100], exact[:100], rtol=0.05)
    error = jnp.linalg.norm(ours - theirs) / jnp.linalg.norm(theirs)
    assert 0 < error < 0.1


def test_small_leaves_have_the_updates_of_adam():
    theta = {"bias": normal(16)}
    ours, theirs = scale_by_adam_8bit(), optax.scale_by_adam()
    mine, other = ours.init(theta), theirs.init(theta)
    for seed in range(3):
        gradient = {"bias": normal(16, seed=seed)}
        update, mine = jax.jit(ours.update)(gradient, mine)
        expected, other = jax.jit(theirs.update)(gradient, other)
    np.testing.assert_allclose(update["bias"], expected["bias"], rtol=1e-6)


def test_moments_take_two_bytes_per_parameter_and_are_sharded_like_it():
    theta = {"weights": {"kernel": normal(3, 3, 64, 64), "bias": normal(64)}}
    tx = make_optimizer(
        optax.constant_schedule(1e-3), theta, OptimizerConfig("adamw_8bit")
    )
    opt = tx.init(theta)
    size = sum(x.nbytes for x in jax.tree.leaves(opt) if x.ndim == 4)
    assert size <= 2.2 * theta["weights"]["kernel"].size
    state = create(theta, opt, jax.random.key(0))
    rules = ((".*", "shard"),)
    placed = jax.device_put(state, of_state(state, tx, make_mesh(fsdp=4), rules))
    own = placed.theta["weights"]["kernel"].sharding
    adam = next(x for x in placed.opt if hasattr(x, "nu"))
    assert adam.nu.codes["weights"]["kernel"].sharding == own
    assert not own.is_fully_replicated
    assert adam.nu.scales["weights"]["kernel"].sharding.is_fully_replicated

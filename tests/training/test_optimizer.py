"""Learning rate schedules, and optimisers with a rate for each part."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from personax.core.tree import flat
from personax.training import optimizer
from personax.training.config import OptimizerConfig
from personax.training.sharding import REPLICATE, make_mesh, of_state
from personax.training.state import create

pytestmark = pytest.mark.quick

THETA = {
    "weights": {"unet/a/kernel": jnp.array([[1.0, -2.0], [0.5, 3.0]])},
    "tokens": {"embedding": jnp.array([[0.3, -0.4, 1.0]])},
}
GRADIENTS = jax.tree.map(lambda x: jnp.sin(3 * x), THETA)
NAMES = ["adamw", "adamw_8bit", "muon", "adafactor", "lion", "sgd"]


def make_schedule(rate, steps, **options):
    return optimizer.make_schedule(
        OptimizerConfig(learning_rate=rate, **options), steps
    )


def make_optimizer(schedule, theta, factors=(), clip=None, **options):
    config = OptimizerConfig(
        learning_rate=1.0, learning_rates=dict(factors), clip=clip, **options
    )
    return optimizer.make_optimizer(schedule, theta, config)


def updates(tx, gradients=GRADIENTS):
    return tx.update(gradients, tx.init(THETA), THETA)[0]


@pytest.mark.parametrize(
    ("schedule", "share"),
    [
        ("constant", lambda x: 1.0),
        ("linear", lambda x: 1 - x),
        ("cosine", lambda x: (1 + math.cos(math.pi * x)) / 2),
    ],
)
@pytest.mark.parametrize("warmup", [0, 4])
def test_a_schedule_is_its_formula(schedule, share, warmup):
    rate = make_schedule(0.5, schedule=schedule, warmup=warmup, steps=20)
    for step in range(21):
        if step < warmup:
            expected = 0.5 * step / warmup
        else:
            expected = 0.5 * share((step - warmup) / (20 - warmup))
        assert float(rate(step)) == pytest.approx(expected, abs=1e-7), step


def test_a_warmup_must_be_shorter_than_the_run():
    with pytest.raises(ValueError, match="warmup=10: expected less than the 10 steps"):
        make_schedule(1.0, warmup=10, steps=10)


@pytest.mark.parametrize("name", NAMES)
def test_a_factor_is_exactly_the_ratio_of_the_updates(name):
    plain = make_optimizer(lambda _: 0.1, THETA, name=name)
    scaled = make_optimizer(
        lambda _: 0.1,
        THETA,
        name=name,
        factors={"tokens": 4.0},
    )
    one, two = updates(plain), updates(scaled)
    np.testing.assert_array_equal(
        4 * one["tokens"]["embedding"], two["tokens"]["embedding"]
    )
    np.testing.assert_array_equal(
        one["weights"]["unet/a/kernel"], two["weights"]["unet/a/kernel"]
    )
    assert np.abs(one["tokens"]["embedding"]).min() > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_reduces_the_loss(name):
    rate = make_schedule(1e-2, steps=50)
    tx = make_optimizer(rate, THETA, name=name)

    def loss(theta):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(theta))

    theta, state = THETA, tx.init(THETA)
    for _ in range(50):
        update, state = tx.update(jax.grad(loss)(theta), state, theta)
        theta = optax.apply_updates(theta, update)
    assert loss(theta) < 0.95 * loss(THETA)


@pytest.mark.parametrize("name", NAMES)
def test_every_optimiser_has_a_state_that_can_be_placed(name):
    tx = make_optimizer(lambda _: 0.1, THETA, name=name, factors={"tokens": 2.0})
    state = create(THETA, tx.init(THETA), jax.random.key(0), ema=True)
    placed = jax.device_put(state, of_state(state, tx, make_mesh(), REPLICATE))
    assert jax.tree.structure(placed) == jax.tree.structure(state)


def test_weight_decay_is_multiplied_with_its_part_s_rate():
    nothing = jax.tree.map(jnp.zeros_like, GRADIENTS)
    tx = make_optimizer(
        lambda _: 0.1, THETA, factors={"tokens": 5.0}, weight_decay=0.01
    )
    for part, rate in (("weights", 0.1), ("tokens", 0.5)):
        for path, update in updates(tx, nothing)[part].items():
            np.testing.assert_allclose(
                update, -rate * 0.01 * THETA[part][path], rtol=1e-6
            )


def test_clipping_uses_the_global_norm():
    norm = float(optax.tree.norm(GRADIENTS))
    tx = make_optimizer(
        lambda _: 1.0, THETA, name="sgd", weight_decay=0.0, clip=norm / 4
    )
    for path, update in flat(updates(tx)).items():
        np.testing.assert_allclose(
            update, -flat(GRADIENTS)[path] / 4, rtol=1e-6, err_msg=path
        )


@pytest.mark.parametrize("clip", [None, 1e3])
def test_a_gradient_below_the_limit_is_unchanged(clip):
    tx = make_optimizer(lambda _: 1.0, THETA, name="sgd", weight_decay=0.0, clip=clip)
    for path, update in flat(updates(tx)).items():
        np.testing.assert_allclose(update, -flat(GRADIENTS)[path], err_msg=path)


def test_an_unknown_part_is_an_error():
    with pytest.raises(ValueError, match="no part 'token'; nearest: tokens"):
        make_optimizer(lambda _: 0.1, THETA, {"token": 2.0})


def test_the_rate_may_be_scaled_by_the_examples_of_a_step():
    config = OptimizerConfig(learning_rate=0.5, scale_by_batch=True)
    assert float(optimizer.make_schedule(config, 10, 8)(0)) == 4.0


def test_adamw_is_optax_s():
    ours = make_optimizer(
        lambda _: 0.1, THETA, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.02
    )
    theirs = optax.adamw(0.1, b1=0.8, b2=0.9, eps=1e-3, weight_decay=0.02)
    ours, theirs = flat(updates(ours)), flat(updates(theirs))
    for path, update in theirs.items():
        np.testing.assert_allclose(ours[path], update, rtol=1e-6, err_msg=path)

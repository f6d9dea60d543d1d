"""Pretraining approximates the exact score; each method changes its own parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from experiments.toy import measures, peaks, training
from experiments.toy.network import init_network, velocity, with_concept
from experiments.toy.task import make_task
from personax.core.tree import flat, overwrite
from tests.experiments.toy.small import small_config

CONFIG = small_config()
TASK = make_task(CONFIG, jax.random.key(0))
ISOLATED = ("textual_inversion", "infusion")


@pytest.fixture(scope="module")
def start():
    params = init_network(jax.random.key(1), conditions=4, **CONFIG.network.to_dict())
    return with_concept(params, 0)


@pytest.fixture(scope="module")
def base(start):
    settings = CONFIG.pretraining
    state = training.pretrain(
        training.start(start, training.METHODS["dreambooth"]),
        start,
        tuple(TASK.mixtures.values()),
        jax.random.key(2),
        settings.steps,
        rate=settings.learning_rate,
        steps=settings.steps,
        batch=settings.batch,
    )
    assert state.step == settings.steps
    return with_concept(overwrite(start, state.theta), 0)


def train(base, method, until=20, state=None):
    return training.train_concept(
        state or training.start(base, training.METHODS[method]),
        base,
        TASK.examples,
        jax.random.key(3),
        until,
        rate=1e-2,
        batch=16,
    )


def exact_divergence(params, name):
    """Half the mean square of the error in eps."""
    probe = measures.make_probe(TASK, [name], 512, jax.random.key(4))
    exact = peaks.velocity(TASK.mixtures[name], probe.x, probe.t)
    error = velocity(params, *probe) - exact
    return float(jnp.square(peaks.rates(probe.t)[0] * error).sum(1).mean() / 2)


def test_600_steps_come_near_the_exact_score_of_every_condition(start, base):
    """Within 0.05, of an expected square of 1 for eps itself; 0.3 and more before."""
    for name in TASK.mixtures:
        assert exact_divergence(base, name) < 0.05
        assert exact_divergence(start, name) > 0.3


@pytest.mark.parametrize("method", training.METHODS)
def test_a_method_changes_all_that_it_trains_and_nothing_else(base, method):
    state = train(base, method)
    after = flat(overwrite(base, state.theta))
    changed = {k for k, x in flat(base).items() if not np.array_equal(x, after[k])}
    # No example is of another condition: their rows have no gradient.
    assert changed == set(state.theta) - {"conditions/embedding"}


@pytest.mark.parametrize("method", training.METHODS)
def test_only_embeddings_and_residuals_leave_other_conditions_unchanged(base, method):
    probe = measures.make_probe(TASK, list(TASK.mixtures), 64, jax.random.key(5))
    before = measures.field(base, probe)
    params = overwrite(base, train(base, method).theta)
    same = np.array_equal(before.value, measures.field(params, probe).value)
    assert same == (method in ISOLATED)


@pytest.mark.parametrize("method", training.METHODS)
def test_every_method_learns_the_examples(base, method):
    condition = jnp.full(8, TASK.concept)
    losses = [
        training.loss(params, TASK.examples, condition, jax.random.key(6))
        for params in (base, overwrite(base, train(base, method).theta))
    ]
    assert losses[1] < losses[0]


def test_training_is_optax_adam_on_the_denoising_loss(base):
    key = jax.random.key(3)
    theta = training.start(base, training.METHODS["infusion"]).theta
    condition = jnp.full(16, TASK.concept)

    @jax.jit
    @jax.grad
    def gradient_of(theta, z, noise):
        return training.loss(overwrite(base, theta), z, condition, noise)

    adam = optax.adam(1e-2)
    moments = adam.init(theta)
    for i in range(4):
        which, noise = jax.random.split(jax.random.fold_in(key, i))
        z = TASK.examples[jax.random.randint(which, (16,), 0, 8)]
        gradient = gradient_of(theta, z, noise)
        updates, moments = adam.update(gradient, moments)
        theta = optax.apply_updates(theta, updates)
    trained = train(base, "infusion", 4).theta
    for path, leaf in theta.items():
        np.testing.assert_allclose(trained[path], leaf, rtol=1e-3, atol=1e-5)


def test_a_resumed_training_equals_an_uninterrupted_one(base):
    whole = train(base, "infusion", 20)
    half = train(base, "infusion", 7)
    for one, other in zip(
        jax.tree.leaves(whole),
        jax.tree.leaves(train(base, "infusion", 20, half)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_an_untrained_concept_equals_its_class(base):
    x, t = TASK.examples, jnp.linspace(0, 1, 8)
    of_class = velocity(base, x, t, jnp.full(8, 0))
    np.testing.assert_allclose(
        velocity(base, x, t, jnp.full(8, TASK.concept)), of_class, atol=1e-5
    )


def test_the_residual_is_read_by_the_concept_alone(base):
    x, t = TASK.examples, jnp.linspace(0, 1, 8)
    moved = overwrite(base, {"layers/1/residual": jnp.ones(32)})
    for condition in range(5):
        at = x, t, jnp.full(8, condition)
        same = np.array_equal(velocity(base, *at), velocity(moved, *at))
        assert same == (condition != TASK.concept)

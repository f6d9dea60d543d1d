"""Laws that every method obeys; a new method is tested by its line in `METHODS`."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from personax import artifact, methods
from personax.denoiser import encode, predict
from personax.methods import METHODS, Concept
from personax.methods.losses import Batch
from personax.methods.tokens import TABLE
from personax.networks.vae import Posterior
from personax.training.state import create
from personax.training.step import make_step
from personax.tree import count, flat

pytestmark = [pytest.mark.quick, pytest.mark.parametrize("name", METHODS)]
CONCEPTS = [Concept("<v1>", "dog", (64,), (7,))]
IDS = jnp.array([[62, 5, 64, 6, 63, 63, 63, 63, 63, 63, 63, 63]] * 2)


@pytest.fixture(scope="module")
def batch():
    mean, logvar = jax.random.normal(jax.random.key(3), (2, 2, 8, 8, 4))
    return Batch(Posterior(mean, logvar), IDS)


@pytest.fixture(scope="module")
def trained(tiny, batch):
    """A function of a method's name: (method, theta before, state after, …)."""
    done = {}

    def train(name):
        if name not in done:
            method = methods.make(name)
            traces = []

            def counted(denoiser, batch, key):
                traces.append(name)
                return method.loss(denoiser, batch, key)

            theta = methods.init(method, jax.random.key(1), tiny.params, CONCEPTS)
            # The step donates its state: keep what there was before.
            before = jax.tree.map(np.array, theta)
            tx = optax.adamw(1e-2)
            state = create(theta, tx.init(theta), jax.random.key(2))
            step = make_step(method._replace(loss=counted), tx)
            for _ in range(3):
                state, metrics = step(state, tiny, batch)
            done[name] = method, before, state, metrics, (step, traces)
        return done[name]

    return train


def prediction(denoiser, ids=IDS):
    @jax.jit
    def run(denoiser, x):
        prompt = encode(denoiser, ids)
        return predict(denoiser, x, jnp.full((2,), 400.0), prompt)[0]

    return run(denoiser, jax.random.normal(jax.random.key(4), (2, 8, 8, 4)))


def test_it_starts_as_the_base(name, tiny):
    method = methods.make(name)
    theta = methods.init(method, jax.random.key(1), tiny.params, CONCEPTS)
    plain = jnp.where(IDS == 64, 7, IDS)  # the placeholder's row starts as row 7
    ours = prediction(methods.bind(method, tiny, theta))
    np.testing.assert_allclose(ours, prediction(tiny, plain), atol=1e-6)


def test_every_leaf_of_theta_moves(name, trained):
    _, before, state, _, _ = trained(name)
    after = flat(state.theta)
    still = [path for path, x in flat(before).items() if (x == after[path]).all()]
    assert not still


def test_the_base_is_bitwise_what_it_was(name, tiny, tiny_params, trained):
    before = jax.tree.map(np.array, tiny.params)
    trained(name)
    for path, leaf in flat(tiny.params).items():
        np.testing.assert_array_equal(leaf, flat(before)[path], err_msg=path)


def test_the_optimiser_holds_theta_only(name, trained):
    _, before, state, _, _ = trained(name)
    moments = [leaf for leaf in jax.tree.leaves(state.opt) if leaf.ndim]
    assert sum(leaf.size for leaf in moments) == 2 * count(before)


def test_the_loss_and_the_gradient_norm_are_reported(name, trained):
    metrics = trained(name)[3]
    assert float(metrics["loss"]) > 0
    assert float(metrics["gradient_norm"]) > 0


def test_saved_and_loaded_it_predicts_the_same(name, tiny, trained, tmp_path):
    method, _, state, _, _ = trained(name)
    artifact.save(
        tmp_path,
        state.theta,
        CONCEPTS,
        method=name,
        method_args={},
        base="tiny",
        fingerprint="f",
    )
    loaded = artifact.load(tmp_path, tiny.params, "f")
    assert loaded.concepts == tuple(CONCEPTS)
    ours = prediction(methods.bind(loaded.method, tiny, loaded.theta))
    np.testing.assert_array_equal(
        ours, prediction(methods.bind(method, tiny, state.theta))
    )


def test_bound_inside_jit_equals_bound_outside(name, tiny, trained):
    method, _, state, _, _ = trained(name)

    @jax.jit
    def inside(theta, base, x):
        denoiser = methods.bind(method, base, theta)
        prompt = encode(denoiser, IDS)
        return predict(denoiser, x, jnp.full((2,), 400.0), prompt)[0]

    x = jax.random.normal(jax.random.key(4), (2, 8, 8, 4))
    outside = prediction(methods.bind(method, tiny, state.theta))
    np.testing.assert_allclose(inside(state.theta, tiny, x), outside, atol=1e-5)


def test_another_batch_compiles_nothing(name, tiny, batch, trained):
    _, before, _, _, (step, traces) = trained(name)
    compiled = len(traces)
    tx = optax.adamw(1e-2)
    theta = jax.tree.map(jnp.asarray, before)
    state = create(theta, tx.init(theta), jax.random.key(9))
    step(state, tiny, batch._replace(ids=jnp.roll(IDS, 1, axis=1)))
    assert len(traces) == compiled


def test_words_that_are_there_already_are_not_touched(name, tiny, trained):
    method, _, state, _, _ = trained(name)
    table = flat(tiny.params)[TABLE]
    bound = flat(methods.bind(method, tiny, state.theta).params)[TABLE]
    assert bound.shape[0] == table.shape[0] + 1
    np.testing.assert_array_equal(bound[:-1], table)

"""The validation loss: the same pictures, timesteps and noise at every call."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.diffusion.denoiser import Denoiser
from personax.methods import Method, Part
from personax.methods.losses import Batch
from personax.networks.vae import Posterior
from personax.training.validation import make_validation

pytestmark = pytest.mark.quick

BASE = Denoiser({"weight": jnp.float32(2.0)})
KEY = jax.random.key(3)


def bind(denoiser, theta):
    return denoiser.replace(params={"weight": denoiser.params["weight"] + theta})


def loss(denoiser, batch, keys):
    """A loss of theta, the data and a random draw for each example."""
    noise = jax.vmap(jax.random.normal)(keys)
    mean = batch.posterior.mean[:, 0, 0, 0]
    value = (denoiser.params["weight"] * mean + noise).mean()
    return value, {"loss": value}


METHOD = Method({"weights": Part(lambda *_: {}, bind)}, loss)


def batches(*sizes):
    rng = np.random.default_rng(0)
    for size in sizes:
        mean = rng.standard_normal((size, 1, 1, 4)).astype(np.float32)
        posterior = Posterior(jnp.asarray(mean), jnp.zeros_like(mean))
        yield Batch(posterior, jnp.zeros((size, 5), jnp.int32))


def test_it_is_the_mean_over_the_batches_each_example_with_its_key():
    data = list(batches(3, 3))
    expected = []
    for j, batch in enumerate(data):
        keys = jax.random.split(jax.random.fold_in(KEY, j), 3)
        noise = np.array([jax.random.normal(key) for key in keys])
        expected.append((2.5 * batch.posterior.mean[:, 0, 0, 0] + noise).mean())
    loss = make_validation(METHOD)({"weights": jnp.float32(0.5)}, BASE, data, KEY)
    assert isinstance(loss, float)
    assert loss == pytest.approx(np.mean(expected), rel=1e-5)


def test_two_calls_differ_by_theta_alone():
    validate, data = make_validation(METHOD), list(batches(4, 4))
    one, again, other = (
        validate({"weights": jnp.float32(x)}, BASE, data, KEY) for x in (0.5, 0.5, 1.0)
    )
    assert one == again
    means = np.concatenate([batch.posterior.mean[:, 0, 0, 0] for batch in data])
    assert other - one == pytest.approx(0.5 * means.mean(), rel=1e-4)

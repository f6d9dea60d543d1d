"""The step: on eight devices as on one; stopped and restored as never stopped."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from personax import methods
from personax.methods.losses import Batch
from personax.networks.vae import Posterior
from personax.training.checkpoint import Checkpoints
from personax.training.state import create
from personax.training.step import make_step
from personax.tree import flat
from tests.methods.test_laws import CONCEPTS, IDS

TOLERANCE = 1e-5  # of theta after a step of 1e-3


@pytest.fixture(scope="module")
def setting(tiny):
    """(a fresh state, the step, a batch of eight)."""
    method = methods.make("custom_diffusion")
    tx = optax.adamw(1e-3)
    step = make_step(method, tx)
    mean, logvar = jax.random.normal(jax.random.key(3), (2, 8, 8, 8, 4))
    batch = Batch(Posterior(mean, logvar), jnp.concatenate([IDS] * 4))

    def fresh():
        theta = methods.init(method, jax.random.key(1), tiny.params, CONCEPTS)
        return create(theta, tx.init(theta), jax.random.key(2))

    return fresh, step, batch


def test_a_step_on_eight_devices_equals_a_step_on_one(setting, tiny):
    fresh, step, batch = setting
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    alone, metrics = step(fresh(), tiny, batch)
    state, base = jax.device_put((fresh(), tiny), everywhere)
    sharded, same = step(state, base, jax.device_put(batch, spread))
    np.testing.assert_allclose(metrics["loss"], same["loss"], rtol=1e-5)
    for path, leaf in flat(alone.theta).items():
        np.testing.assert_allclose(
            leaf, flat(sharded.theta)[path], atol=TOLERANCE, err_msg=path
        )


def test_a_restored_run_goes_on_bit_for_bit(setting, tiny, tmp_path):
    fresh, step, batch = setting
    state = fresh()
    for i in range(4):
        state, metrics = step(state, tiny, batch)
        if i == 1:
            with Checkpoints(tmp_path, every=1) as checkpoints:
                checkpoints.save(state, 2)
    with Checkpoints(tmp_path, every=1) as checkpoints:
        resumed = checkpoints.restore(fresh())
    assert int(resumed.step) == 2
    for _ in range(2):
        resumed, same = step(resumed, tiny, batch)
    assert float(metrics["loss"]) == float(same["loss"])
    for path, leaf in flat(state.theta).items():
        np.testing.assert_array_equal(leaf, flat(resumed.theta)[path], err_msg=path)


def test_without_a_checkpoint_the_state_is_the_one_given(setting, tmp_path):
    state = setting[0]()
    with Checkpoints(tmp_path / "none", every=1) as checkpoints:
        assert checkpoints.restore(state) is state

"""The step: in microbatches, on eight devices, and restored from checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from personax import methods
from personax.core.tree import flat
from personax.methods.losses import Batch
from personax.networks.vae import Posterior
from personax.training import sharding
from personax.training.checkpoint import Checkpoints
from personax.training.state import create
from personax.training.step import make_step
from personax.training.validation import make_validation
from tests.methods.test_laws import CONCEPTS, IDS, PLAIN, TX, small_denoiser

TOLERANCE = 1e-5  # of theta after a step of 1e-2
STEPS = 10
DECAY = 0.99


@pytest.fixture(scope="module")
def base():
    return small_denoiser()


@pytest.fixture(scope="module")
def method():
    """Two losses, new words, and kernels; one of the losses is over pairs."""
    return methods.make("class_diffusion")


@pytest.fixture(scope="module")
def fresh(method, base):
    def make(*, ema=False):
        theta = methods.init(method, jax.random.key(1), base.params, CONCEPTS)
        return create(theta, TX.init(theta), jax.random.key(2), ema=ema)

    return make


@pytest.fixture(scope="module")
def batch():
    mean, logvar = jax.random.normal(jax.random.key(3), (2, 8, 8, 8, 4))
    weight = jnp.linspace(0.5, 1.5, 8)
    mask = (jax.random.uniform(jax.random.key(4), (8, 8, 8)) < 0.5).astype(jnp.float32)
    return Batch(
        Posterior(mean, logvar),
        jnp.concatenate([IDS] * 4).at[:, 1].set(jnp.arange(8)),
        weight=weight,
        mask=mask,
        plain=jnp.concatenate([PLAIN] * 4),
        pairs=jnp.stack([IDS[:1], PLAIN[:1]], axis=1),
    )


@pytest.fixture(scope="module")
def step(method):
    """The step with an average, compiled once."""
    return make_step(method, TX, ema_decay=DECAY)


def run(step, state, base, batch):
    """[(state's theta and average, metrics)] after each of some steps."""
    found = []
    for _ in range(STEPS):
        state, metrics = step(state, base, batch)
        kept = jax.tree.map(np.array, (state.theta, state.ema))
        found.append((state.replace(theta=kept[0], ema=kept[1]), metrics))
    return found


@pytest.fixture(scope="module")
def ten(step, fresh, base, batch):
    """[(state, metrics)] after each of ten steps on one device."""
    return run(step, fresh(ema=True), base, batch)


@pytest.fixture(scope="module")
def whole(ten):
    """(state, metrics) after one step on one device."""
    return ten[0]


def assert_close(ours, want, atol):
    ours, want = flat(ours), flat(want)
    assert ours.keys() == want.keys()
    for path, leaf in want.items():
        np.testing.assert_allclose(ours[path], leaf, rtol=0, atol=atol, err_msg=path)


def test_microbatches_give_the_step_of_the_whole_batch(
    method, fresh, base, batch, whole
):
    in_pieces = make_step(method, TX, accumulate=4, ema_decay=DECAY)
    state, metrics = in_pieces(fresh(ema=True), base, batch)
    assert metrics.keys() == whole[1].keys()
    for name, value in metrics.items():
        np.testing.assert_allclose(value, whole[1][name], rtol=1e-5, err_msg=name)
    assert_close(state.theta, whole[0].theta, 1e-6)


@pytest.mark.parametrize(
    ("shape", "rules"),
    [
        ({}, sharding.REPLICATE),
        ({"data": 2, "fsdp": 4}, ((r".*attn2.*", "shard"), (".*", "replicate"))),
    ],
)
def test_ten_steps_on_eight_devices_equal_ten_on_one(
    method, fresh, base, batch, ten, shape, rules
):
    mesh = sharding.make_mesh(**shape)
    state = fresh(ema=True)
    places = sharding.of_state(state, TX, mesh, rules)
    step = make_step(method, TX, ema_decay=DECAY, shardings=places)
    spread = jax.device_put(
        batch._replace(pairs=None), sharding.over_batch(mesh)
    )._replace(pairs=jax.device_put(batch.pairs, sharding.everywhere(mesh)))
    params = jax.device_put(base.params, sharding.of_tree(base.params, mesh, rules))
    frozen = base.replace(params=params)
    placed, losses = jax.device_put(state, places), []
    for i in range(STEPS):
        placed, metrics = step(placed, frozen, spread)
        losses.append(float(metrics["loss"]))
        if i == 0:
            assert_close(placed.theta, ten[0][0].theta, TOLERANCE)
            assert_close(placed.ema, ten[0][0].ema, TOLERANCE)
    np.testing.assert_allclose(losses, [m["loss"] for _, m in ten], rtol=1e-5)
    assert jax.tree.map(lambda x: x.sharding, placed.theta) == places.theta
    for tree in (placed.opt, placed.ema, params):
        split = [x for x in jax.tree.leaves(tree) if not x.is_fully_replicated]
        assert bool(split) == bool(shape)


def test_the_average_is_the_recurrence_with_its_warmup(step, fresh, base, batch):
    state = fresh(ema=True)
    average = jax.tree.map(np.array, state.theta)
    for i in range(3):
        state, _ = step(state, base, batch)
        decay = (1 + i) / (10 + i)
        assert decay < DECAY
        average = jax.tree.map(
            lambda old, new, decay=decay: decay * old + (1 - decay) * np.array(new),
            average,
            state.theta,
        )
    assert_close(state.ema, average, 1e-6)


def test_the_decay_of_the_average_is_bounded_by_the_option(step, fresh, base, batch):
    state = fresh(ema=True)
    before = jax.tree.map(np.array, state.theta)
    state, _ = step(state.replace(step=jnp.int32(10_000)), base, batch)
    average = jax.tree.map(
        lambda old, new: DECAY * old + (1 - DECAY) * new, before, state.theta
    )
    assert_close(state.ema, average, 1e-6)


def test_a_restored_run_continues_bitwise(step, fresh, base, batch, tmp_path):
    state = fresh(ema=True)
    with Checkpoints(tmp_path) as checkpoints:
        for i in range(4):
            state, metrics = step(state, base, batch)
            if i == 1:
                checkpoints.save(state, 2)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest() == 2
        resumed = checkpoints.restore(fresh(ema=True))
    assert int(resumed.step) == 2
    for _ in range(2):
        resumed, same = step(resumed, base, batch)
    assert float(metrics["loss"]) == float(same["loss"])
    ours, want = jax.tree.leaves(resumed), jax.tree.leaves(state)
    for one, other in zip(ours, want, strict=True):
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_array_equal(one, other)


def test_a_state_is_restored_onto_another_mesh(fresh, tmp_path):
    rules, state = ((".*", "shard"),), fresh(ema=True)
    for i, shape in enumerate(({"data": 2, "fsdp": 4}, {"data": 4, "fsdp": 2}, {})):
        places = sharding.of_state(state, TX, sharding.make_mesh(**shape), rules)
        placed = jax.device_put(fresh(ema=True), places)
        with Checkpoints(tmp_path) as checkpoints:
            found = checkpoints.restore(placed)
            checkpoints.save(found, i + 1)
        assert jax.tree.map(lambda x: x.sharding, found.theta) == places.theta
        assert_close(found.theta, state.theta, 0)


class Place:
    """A source that records what it is restored from."""

    def __init__(self):
        self.restored = []

    def state(self):
        return {"next": 7}

    def restore(self, state, step):
        self.restored.append((state, step))


def test_the_state_of_the_source_is_saved_too(fresh, tmp_path):
    source = Place()
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(fresh(), source)
        assert source.restored == []
        checkpoints.save(fresh(), 3, source)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.restore(fresh(), source)
    assert source.restored == [({"next": 7}, 3)]


def test_a_checkpoint_without_a_source_is_restored(fresh, tmp_path):
    state, source = fresh(), Place()
    plain = {"step": state.step, "theta": state.theta, "opt": state.opt}
    plain["key"] = jax.random.key_data(state.key)
    with ocp.CheckpointManager(tmp_path) as manager:
        manager.save(5, args=ocp.args.StandardSave(plain))
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore(fresh(), source)
        assert checkpoints.newest() == 5
        checkpoints.save(found, 6, source)
    assert_close(found.theta, state.theta, 0)
    assert source.restored == [({}, 5)]


def test_only_the_newest_checkpoints_are_kept(fresh, tmp_path):
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        for i in (1, 2, 2, 3):
            checkpoints.save(fresh(), i)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest() == 3
    assert {file.name for file in tmp_path.iterdir()} == {"2", "3"}


def test_without_a_checkpoint_the_given_state_is_returned(fresh, tmp_path):
    state = fresh()
    with Checkpoints(tmp_path / "none") as checkpoints:
        assert checkpoints.newest() is None
        assert checkpoints.restore(state) is state


def test_a_state_without_an_average_is_restored_without_one(fresh, tmp_path):
    state = fresh()
    assert state.ema is None
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, 1)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore(state)
    assert restored.ema is None
    assert_close(restored.theta, state.theta, 0)


def test_the_validation_loss_is_the_mean_over_fixed_draws(method, fresh, base, batch):
    validate = make_validation(method)
    batches, key = [batch, batch._replace(ids=batch.ids[::-1])], jax.random.key(7)
    theta = fresh().theta
    value = validate(theta, base, batches, key)
    assert value == validate(theta, base, batches, key)

    @jax.jit
    def loss(theta, batch, key):
        denoiser = methods.bind(method, base, theta)
        return method.loss(denoiser, batch, jax.random.split(key, 8))[0]

    each = [loss(theta, b, jax.random.fold_in(key, j)) for j, b in enumerate(batches)]
    assert value == pytest.approx(float(np.mean(each)), rel=1e-5)

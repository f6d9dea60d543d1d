"""Meshes over eight devices, and rules from paths to shardings."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec

from personax.training.sharding import (
    REPLICATE,
    by_rules,
    check_rules,
    everywhere,
    make_mesh,
    of_state,
    of_tree,
    over_batch,
)
from personax.training.state import create

pytestmark = pytest.mark.quick


@pytest.mark.parametrize(
    ("arguments", "shape"),
    [
        ({}, (8, 1)),
        ({"fsdp": 2}, (4, 2)),
        ({"data": 2, "fsdp": -1}, (2, 4)),
        ({"data": 1, "fsdp": 8}, (1, 8)),
        ({"data": -1, "fsdp": -1}, (1, 8)),
    ],
)
def test_a_mesh_uses_every_device(arguments, shape):
    mesh = make_mesh(**arguments)
    assert mesh.axis_names == ("data", "fsdp")
    assert (mesh.shape["data"], mesh.shape["fsdp"]) == shape


@pytest.mark.parametrize(
    ("data", "fsdp"), [(3, 1), (-1, 3), (16, 1), (0, 8), (-1, 0), (-8, -1)]
)
def test_a_mesh_that_does_not_fit_the_devices_is_an_error(data, fsdp):
    with pytest.raises(ValueError, match=f"data={data}, fsdp={fsdp} does not fit 8 d"):
        make_mesh(data, fsdp)


@dataclass(frozen=True)
class Described:
    """The attributes of a device that a mesh reads."""

    platform: str
    device_kind: str
    id: int
    process_index: int
    slice_index: int


@pytest.fixture
def two_slices(monkeypatch):
    """Eight devices in two TPU slices."""
    devices = [Described("a", "a", i, i // 2, i // 4) for i in range(8)]
    monkeypatch.setattr(jax, "devices", lambda: devices)


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (4, 2), (2, 4), (-1, -1)])
def test_only_the_batch_is_split_between_slices(two_slices, data, fsdp):
    mesh = make_mesh(data, fsdp)
    data, fsdp = (2, 4) if data == -1 else (data, fsdp)
    assert mesh.devices.shape == (data, fsdp)
    for i, row in enumerate(mesh.devices):
        assert {device.slice_index for device in row} == {2 * i // data}


def test_parameters_are_not_split_between_slices(two_slices):
    with pytest.raises(ValueError, match="data=1, fsdp=8 does not fit 2 slices: data"):
        make_mesh(1, 8)


def test_a_batch_is_split_over_both_axes():
    placed = jax.device_put(jnp.zeros((16, 3)), over_batch(make_mesh(fsdp=2)))
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    assert len(placed.addressable_shards) == 8


def test_the_first_rule_that_matches_the_whole_path_applies():
    mesh = make_mesh(fsdp=4)
    rules = (("unet/.*/bias", "replicate"), ("unet/.*", "shard"), (".*", "replicate"))
    sharding = by_rules(mesh, rules)
    assert sharding("unet/a/kernel", (4, 8)).spec == PartitionSpec(None, "fsdp")
    assert sharding("unet/a/bias", (8,)).spec == PartitionSpec()
    assert sharding("text/unet/a/kernel", (4, 8)).spec == PartitionSpec()


@pytest.mark.parametrize(
    ("shape", "spec"),
    [
        ((3, 3, 16, 8), PartitionSpec(None, None, "fsdp")),
        ((64, 6), PartitionSpec("fsdp")),
        ((6, 2), PartitionSpec()),  # no divisible axis
        ((), PartitionSpec()),
    ],
)
def test_the_largest_divisible_axis_is_split(shape, spec):
    assert by_rules(make_mesh(fsdp=4), ((".*", "shard"),))("a", shape).spec == spec


def test_a_path_without_a_rule_is_an_error():
    sharding = by_rules(make_mesh(), (("unet/.*", "shard"),))
    with pytest.raises(ValueError, match=r"No sharding rule matches vae/a; end them"):
        sharding("vae/a", (8,))


def test_an_unknown_rule_is_an_error():
    with pytest.raises(ValueError, match="'split'; expected replicate or shard"):
        by_rules(make_mesh(), (("vae/.*", "split"),))


def test_a_rule_that_matches_no_path_is_an_error():
    tree = {"unet": {"attn2": {"kernel": 0}, "conv_in": {"kernel": 1}}}
    check_rules((("unet/.*attn2.*", "shard"), (".*", "replicate")), tree)
    with pytest.raises(
        ValueError, match=r"'unet/.\*atn2.\*' matches no path; nearest: u"
    ):
        check_rules((("unet/.*atn2.*", "shard"), (".*", "replicate")), tree)


def test_the_paths_of_theta_begin_with_the_part():
    theta = {"weights": {"unet/a/kernel": jnp.zeros((8, 4))}}
    rules = (("weights/unet/a/kernel", "shard"),)
    shardings = of_tree(theta, make_mesh(fsdp=4), rules)
    assert shardings["weights"]["unet/a/kernel"].spec == PartitionSpec("fsdp")


def test_moments_and_averages_are_sharded_like_their_parameters():
    theta = {"weights": {"kernel": jnp.zeros((8, 4)), "bias": jnp.zeros(3)}}
    mesh, tx = make_mesh(fsdp=4), optax.adamw(1e-3)
    state = create(theta, tx.init(theta), jax.random.key(0), ema=True)
    placed = jax.device_put(state, of_state(state, tx, mesh, ((".*", "shard"),)))
    adam = placed.opt[0]
    for tree in (placed.theta, placed.ema, adam.mu, adam.nu):
        assert tree["weights"]["kernel"].sharding.spec == PartitionSpec("fsdp")
        assert tree["weights"]["bias"].sharding.spec == PartitionSpec()
    for leaf in (placed.step, adam.count, placed.key):
        assert leaf.sharding.is_equivalent_to(everywhere(mesh), leaf.ndim)


def test_replicate_puts_a_copy_on_every_device():
    sharding = by_rules(make_mesh(fsdp=8), REPLICATE)
    assert sharding("a/b", (8, 8)).spec == PartitionSpec()

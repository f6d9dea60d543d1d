"""Where a mesh shards parameters, a layer's travel to the images, and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from benchmarks.tpu_compile import collectives
from personax.networks.compute import Compute
from personax.networks.unet import init_unet, unet
from personax.training.sharding import everywhere, make_mesh, of_tree, over_batch


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=4)


def test_sharded_parameters_are_gathered_and_change_no_prediction(tiny_spec, mesh):
    config = tiny_spec.unet
    params = init_unet(jax.random.key(0), config)
    x = jax.random.normal(jax.random.key(1), (8, 8, 8, config.in_channels))
    text = jax.random.normal(jax.random.key(2), (8, 12, config.cross_attention_dim))

    def forward(params, x, text, compute):
        return unet(params, config, x, jnp.full(8, 9.0), text, compute=compute)[0]

    run = jax.jit(forward, static_argnums=3)
    alone = run.lower(params, x, text, Compute()).compile()(params, x, text)
    placed = jax.device_put(params, of_tree(params, mesh, ((".*", "shard"),)))
    spread = jax.device_put((x, text), over_batch(mesh))
    compiled = run.lower(placed, *spread, Compute(mesh=mesh)).compile()
    # 1e-5 of values of order one: each device sums its own images' rows.
    assert jnp.allclose(compiled(placed, *spread), alone, rtol=1e-5, atol=1e-5)
    assert set(collectives(compiled.as_text())) == {"all-gather"}


def test_kernels_are_gathered_in_the_compute_dtype_and_norms_as_they_are(mesh):
    compute = Compute("bfloat16", mesh=mesh)
    leaves = {"kernel": jnp.ones((8, 4)), "bias": jnp.ones(4)}
    placed = jax.device_put(leaves, of_tree(leaves, mesh, ((".*", "shard"),)))
    found = jax.jit(compute.gather)(placed)
    assert found["kernel"].dtype == jnp.bfloat16
    assert found["bias"].dtype == jnp.float32
    for leaf in found.values():
        assert leaf.sharding.is_equivalent_to(everywhere(mesh), leaf.ndim)


def test_without_a_mesh_nothing_is_done_to_them():
    leaves = {"kernel": jnp.ones((8, 4))}
    alone = make_mesh(devices=jax.devices()[:1])
    for compute in (Compute("bfloat16"), Compute("bfloat16", mesh=alone)):
        assert compute.gather(leaves) is leaves
    assert dataclasses.replace(compute, mesh=None) == Compute("bfloat16")

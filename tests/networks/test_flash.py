"""Flash attention, interpreted: plain attention's output and gradients, on any mesh."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from personax.networks.attention import attend, pick_kernel
from personax.networks.compute import Compute
from personax.networks.flash import fits, flash
from personax.training.sharding import make_mesh


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=2, devices=jax.devices()[:4])


@pytest.mark.parametrize(("width", "spread"), [(40, False), (160, True)])
def test_output_and_gradients_are_those_of_plain_attention(width, spread, mesh):
    # 1e-5 of values and gradients of order one: another order of summation.
    shape = (4 if spread else 1, 256, 1, width)
    q, k, v = (jax.random.normal(jax.random.key(i), shape) for i in range(3))
    own = mesh if spread else None
    if spread:
        rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
        q, k, v = jax.device_put((q, k, v), rows)

    def run(attention):
        def loss(q, k, v):
            out = attention(q, k, v)
            return jnp.sum(jnp.sin(out)), out

        return jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True))(q, k, v)

    ours = run(lambda q, k, v: flash(q, k, v, mesh=own, interpret=True))
    plain = run(lambda q, k, v: attend(q, k, v, compute=Compute(attention="xla")))
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(plain), strict=True):
        assert one.sharding.is_equivalent_to(q.sharding, 4)
        assert jnp.allclose(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "n", "good"),
    [
        ((4, 4096, 8, 40), 4096, True),
        ((4, 1024, 8, 80), 1024, True),
        ((4, 1152, 8, 160), 1152, True),
        ((4, 4096, 8, 40), 77, False),  # no tile divides the keys
        ((4, 1120, 8, 40), 1120, False),
        ((3, 4096, 8, 40), 4096, False),  # nor three pictures by four devices
    ],
)
def test_it_fits_what_tiles_and_devices_divide(shape, n, good, mesh):
    assert fits(shape, n, mesh) == good
    kernel = pick_kernel(shape, n, jnp.bfloat16, "tpu", mesh=mesh)
    assert (kernel == "flash") == good


def test_a_tpu_whose_mesh_is_not_known_does_without():
    shape = (4, 4096, 8, 40)
    assert pick_kernel(shape, 4096, jnp.bfloat16, "tpu") == "chunked"
    assert pick_kernel(shape, 4096, jnp.bfloat16, "cpu") == "chunked"

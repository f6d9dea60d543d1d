"""The sampling scan: hooks, keys, compilation, inversion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from personax.diffusion.sampling import image_keys, invert_path, sample, start_noise
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS
from tests.small_configs import BETAS

SCHEDULE = ScheduleConfig(**BETAS, steps_offset=1, set_alpha_to_one=False)


def network(x, t, i):
    return 0.5 * jnp.sin(x + 0.003 * t) + 0.4 * x, {"t": t}


def start(count=4):
    return start_noise(jax.random.key(0), jnp.arange(count), (4, 4, 2))


def test_start_noise_is_keyed_by_image():
    some = start_noise(jax.random.key(0), jnp.array([3, 1]), (4, 4, 2))
    np.testing.assert_array_equal(some, start()[jnp.array([3, 1])])
    assert np.abs(start()[0] - start()[1]).max() > 0.1


def test_eps_fn_sees_every_row_in_order():
    grid = SOLVERS["heun"].grid(SCHEDULE, 3)
    rows = []

    def eps_fn(x, t, i):
        jax.debug.callback(
            lambda *row: rows.append(tuple(map(float, row))), i, t, ordered=True
        )
        return network(x, t, i)

    sample(eps_fn, SOLVERS["heun"], grid, start()).block_until_ready()
    jax.effects_barrier()
    assert rows == [(i, float(t)) for i, t in enumerate(grid.t)]


def test_post_edits_x_with_the_maps_and_threads_its_carry():
    grid = SOLVERS["ddim"].grid(SCHEDULE, 4)

    def post(i, x, maps, carry):
        last = i == 3
        return jnp.where(last, carry + maps["t"], x), carry + jnp.ones_like(x)

    x = start()
    z = sample(network, SOLVERS["ddim"], grid, x, post=post, carry=jnp.zeros_like(x))
    np.testing.assert_allclose(z, jnp.full_like(x, 3 + grid.t[-1]))


def test_a_half_precision_prediction_keeps_x_in_float32():
    grid = SOLVERS["dpmpp_2m"].grid(SCHEDULE, 3)

    def half(x, t, i):
        eps, maps = network(x, t, i)
        return eps.astype(jnp.bfloat16), maps

    assert sample(half, SOLVERS["dpmpp_2m"], grid, start()).dtype == jnp.float32


def test_other_times_and_noise_compile_nothing():
    traces = []

    @jax.jit
    def run(grid, x, keys):
        traces.append(1)
        return sample(network, SOLVERS["ddpm"], grid, x, keys)

    for spacing, seed in [("leading", 0), ("trailing", 1)]:
        schedule = ScheduleConfig(timestep_spacing=spacing)
        keys = image_keys(jax.random.key(seed), jnp.arange(4))
        run(SOLVERS["ddpm"].grid(schedule, 5), start(), keys)
    assert len(traces) == 1


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_devices_change_no_image(name):
    count = jax.device_count()
    mesh = jax.make_mesh((count,), ("data",))
    sharded = NamedSharding(mesh, PartitionSpec("data"))
    grid = SOLVERS[name].grid(SCHEDULE, 5)
    x, keys = start(count), image_keys(jax.random.key(1), jnp.arange(count))

    @jax.jit
    def run(x, keys):
        return sample(network, SOLVERS[name], grid, x, keys)

    shared = run(jax.device_put(x, sharded), jax.device_put(keys, sharded))
    np.testing.assert_allclose(shared, run(x, keys), atol=1e-5)


def test_invert_then_sample_returns():
    z0 = 0.5 * start()

    def distance(steps):
        grid = SOLVERS["ddim"].grid(SCHEDULE, steps)
        x = invert_path(network, grid, z0)[0]
        return float(jnp.abs(sample(network, SOLVERS["ddim"], grid, x) - z0).max())

    assert distance(200) < 0.03
    assert distance(200) < 0.6 * distance(100)


def test_invert_counts_the_rows_that_it_undoes():
    grid = SOLVERS["ddim"].grid(SCHEDULE, 5)

    def only_last_row(x, t, i):
        return jnp.where(i == 4, 1.0, 0.0) * jnp.ones_like(x), {}

    last = jax.tree.map(lambda column: column[-1:], grid)
    first = jax.tree.map(lambda column: column[:-1], grid)
    zero = lambda x, t, i: (jnp.zeros_like(x), {})  # noqa: E731
    one = lambda x, t, i: (jnp.ones_like(x), {})  # noqa: E731
    between = invert_path(one, last, start())[0]
    expected = invert_path(zero, first, between)[0]
    inverted = invert_path(only_last_row, grid, start())[0]
    np.testing.assert_allclose(inverted, expected, rtol=1e-5)

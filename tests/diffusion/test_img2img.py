"""Drawing from a picture: where it begins, and what a mask keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.diffusion.img2img import Picture, begin, both, keep
from personax.diffusion.sampling import sample, sample_with_state, start_noise
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS
from tests.small_configs import BETAS

pytestmark = pytest.mark.quick
SCHEDULE = ScheduleConfig(**BETAS, steps_offset=1)
REPAINT = jnp.zeros((1, 4, 4, 1)).at[:, :2].set(1.0)


def network(x, t, i):
    return 0.5 * jnp.sin(x + 0.003 * t) + 0.4 * x, {}


def noise(seed=0):
    return start_noise(jax.random.key(seed), jnp.arange(3), (4, 4, 2))


@pytest.fixture
def z0():
    return noise(1)[:1] + 2


def test_a_picture_begins_at_the_rates_of_the_first_row(z0):
    grid = SOLVERS["ddim"].grid(SCHEDULE, 10).tail(4)
    out = begin(Picture(z0), grid, noise())
    np.testing.assert_allclose(out, grid.signal[0] * z0 + grid.noise[0] * noise())


def test_without_a_picture_or_its_noise_it_begins_as_ever(z0):
    grid = SOLVERS["euler"].grid(SCHEDULE, 10)
    for picture in (None, Picture(z0, REPAINT, noised=False)):
        np.testing.assert_array_equal(
            begin(picture, grid, noise()), grid.start * noise()
        )


@pytest.mark.parametrize("name", ["ddim", "heun", "plms", "euler_ancestral"])
def test_what_is_not_repainted_is_the_picture_and_the_rest_is_not(name, z0):
    solver = SOLVERS[name]
    grid = solver.grid(SCHEDULE, 8).tail(3)
    picture = Picture(z0, REPAINT)
    keys = jax.random.split(jax.random.key(5), 3)

    def draw(post):
        x = begin(picture, grid, noise())
        return sample(network, solver, grid, x, keys, post)

    out, free = draw(keep(picture, grid, noise())), draw(None)
    kept = jnp.broadcast_to(z0[:, 2:], out[:, 2:].shape)
    np.testing.assert_array_equal(out[:, 2:], kept)
    assert np.abs(free[:, 2:] - kept).min() > 0
    # The network here sees each place alone, so what is repainted is drawn as ever.
    np.testing.assert_allclose(out[:, :2], free[:, :2], rtol=1e-5)


def test_after_each_row_what_is_kept_has_the_noise_of_its_level(z0):
    grid = SOLVERS["ddim"].grid(SCHEDULE, 5)
    post = keep(Picture(z0, REPAINT), grid, noise())
    x = jnp.zeros_like(noise())
    for i in range(4):
        out, _ = post(i, x, {}, None)
        known = grid.signal[i + 1] * z0 + grid.noise[i + 1] * noise()
        np.testing.assert_allclose(out[:, 2:], known[:, 2:], atol=1e-5)
        np.testing.assert_array_equal(out[:, :2], 0)


def test_both_edits_are_made_and_the_carry_is_the_first_s(z0):
    grid = SOLVERS["ddim"].grid(SCHEDULE, 3)

    def count(i, x, maps, carry):
        return x + 1, carry + 1

    post = both(count, keep(Picture(z0, REPAINT), grid, noise()))
    x, carry = sample_with_state(
        network, SOLVERS["ddim"], grid, noise(), None, post, jnp.zeros(())
    )
    assert carry == 3
    np.testing.assert_array_equal(x[:, 2:], jnp.broadcast_to(z0, x.shape)[:, 2:])

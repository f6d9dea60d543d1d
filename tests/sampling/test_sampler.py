"""Drawing: an image depends on its seed and index, not on batch, devices or company."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from personax.concepts.bind import Model
from personax.diffusion.denoiser import encode
from personax.diffusion.guidance import cfg
from personax.diffusion.solvers import SOLVERS
from personax.sampling.sampler import make_sampler, to_pixels

TOLERANCE = 2  # of 255, float32


@pytest.fixture(scope="module")
def pixels(tiny, tiny_params):
    """A function of the image indices, or of a sharded array of them."""
    solver = SOLVERS["euler_ancestral"]  # draws fresh noise at every step
    drawer = make_sampler(tiny.spec, tiny_params["vae"], solver, 6, (16, 16))
    models = {"base": Model(tiny, None)}
    ids = jnp.array([[62, 5, 6, 63] + [63] * 8, [62] + [63] * 11])
    prompt, null = (jax.jit(encode)(tiny, row[None]) for row in ids)
    terms = cfg(prompt, null, jnp.float32(4.0))

    def run(indices, seed=0):
        key = jax.random.key(seed)
        return np.asarray(drawer.draw(models, terms, key, indices)).astype(int)

    return run


def test_an_image_is_the_same_in_every_batch(pixels):
    together = pixels(jnp.arange(4))
    for i in range(4):
        assert np.abs(pixels(jnp.array([i]))[0] - together[i]).max() <= TOLERANCE
    assert together.std() > 1


def test_an_image_is_the_same_on_eight_devices(pixels):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    spread = NamedSharding(mesh, PartitionSpec("data"))
    indices = jnp.arange(8)
    alone, sharded = pixels(indices), pixels(jax.device_put(indices, spread))
    assert np.abs(alone - sharded).max() <= TOLERANCE


def test_images_of_one_run_and_of_two_seeds_differ(pixels):
    first, second = pixels(jnp.arange(2))
    other = pixels(jnp.arange(2), seed=1)[0]
    assert np.abs(first - second).max() > TOLERANCE
    assert np.abs(first - other).max() > TOLERANCE


def test_pixels_are_rounded_and_clipped():
    images = jnp.array([-2.0, -1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 5, 1)
    np.testing.assert_array_equal(to_pixels(images).ravel(), [0, 0, 128, 255, 255])


@pytest.mark.parametrize("size", [(16, 17), (15, 16)])
def test_a_size_that_the_autoencoder_cannot_have_is_refused(tiny_spec, size):
    with pytest.raises(ValueError, match="multiple of 2"):
        tiny_spec.latent_shape(*size)

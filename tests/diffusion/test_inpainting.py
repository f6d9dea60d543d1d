"""Inpainting UNets: what they read beside the latents, and what binds to them."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.core.tree import flat
from personax.diffusion.denoiser import Denoiser, Prompt, network, with_extra
from personax.methods import Concept
from personax.networks.unet import init_unet, unet
from tests.random_params import random_params
from tests.small_configs import ONE_BLOCK


@pytest.fixture(scope="module")
def nine(tiny_params):
    """A denoiser of nine input channels."""
    config = dataclasses.replace(ONE_BLOCK.unet, in_channels=9)
    spec = dataclasses.replace(ONE_BLOCK, unet=config)
    shapes = jax.eval_shape(lambda: init_unet(jax.random.key(0), config))
    return Denoiser(random_params({"unet": shapes}), spec=spec)


def test_a_unet_of_nine_channels_inpaints(nine):
    assert nine.spec.inpaints
    assert not ONE_BLOCK.inpaints


def test_a_network_without_a_mask_says_what_it_needs(nine):
    x, prompt = jnp.zeros((1, 8, 8, 4)), Prompt(jnp.zeros((1, 12, 24)))
    with pytest.raises(ValueError, match="an inpainting model, which needs a picture"):
        network(nine, x, jnp.zeros(1), prompt)


def test_one_mask_serves_all_rows_and_comes_behind_the_latents(nine):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.standard_normal((2, 8, 8, 4), np.float32))
    extra = jnp.asarray(rng.standard_normal((1, 8, 8, 5), np.float32))
    t, prompt = jnp.zeros(2), Prompt(jnp.ones((2, 12, 24)))
    drawn, _ = jax.jit(network)(with_extra(nine, extra), x, t, prompt)
    both = jnp.concatenate([x, jnp.tile(extra, (2, 1, 1, 1))], axis=-1)
    expected, _ = jax.jit(unet, static_argnums=1)(
        nine.params["unet"], nine.spec.unet, both, t, prompt.text
    )
    np.testing.assert_allclose(drawn, expected, atol=1e-5)


def test_the_frozen_stream_reads_the_mask_as_well(nine):
    extra = jnp.ones((1, 8, 8, 5))
    bound = with_extra(dataclasses.replace(nine, reference=nine), extra)
    assert bound.reference is not None
    assert bound.extra is bound.reference.extra is extra


def test_keys_and_values_of_an_ordinary_base_bind(nine):
    four = jax.eval_shape(lambda: init_unet(jax.random.key(0), ONE_BLOCK.unet))
    method = methods.make("custom_diffusion", words=False)
    dog = Concept("", "dog", (), (), "dog")
    theta = methods.init(
        method, jax.random.key(0), random_params({"unet": four}), [dog]
    )
    theta = jax.tree.map(lambda leaf: leaf + 1, theta)
    before, after = (
        flat(each.params) for each in (nine, methods.bind(method, nine, theta))
    )
    changed = {path for path in after if after[path] is not before[path]}
    sites = sum(path.endswith("attn2/to_k/kernel") for path in before)
    assert len(changed) == 2 * sites > 0
    for path in changed:
        np.testing.assert_array_equal(after[path], flat(theta["weights"])[path])

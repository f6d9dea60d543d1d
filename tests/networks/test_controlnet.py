"""The ControlNet's hint: what is shown to it, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.networks.controlnet import (
    ControlNetConfig,
    controlnet,
    embed_hint,
    init_controlnet,
)
from tests.random_params import random_params

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def small(tiny_spec):
    """(its parameters, its config): a hint of 2 pixels per latent cell."""
    config = ControlNetConfig.of(tiny_spec.unet, (4, 8))
    shapes = jax.eval_shape(lambda: init_controlnet(jax.random.key(0), config))
    return random_params(shapes), config


def test_a_hint_of_one_channel_stands_for_three(small):
    hint = jax.random.uniform(jax.random.key(0), (2, 16, 16, 1))
    params, config = small
    run = jax.jit(lambda hint: embed_hint(params, config, hint))
    one = run(hint)
    np.testing.assert_array_equal(one, run(jnp.repeat(hint, 3, -1)))
    assert one.shape == (2, 8, 8, 16)


def test_a_hint_of_another_size_or_of_two_channels_is_refused(small):
    with pytest.raises(ValueError, match="17x16 must be a multiple of 2"):
        embed_hint(*small, jnp.zeros((1, 16, 17, 3)))
    with pytest.raises(ValueError, match="2 channels, the ControlNet expects 3"):
        embed_hint(*small, jnp.zeros((1, 16, 16, 2)))
    read = jnp.zeros((1, 8, 12, 16))
    x, text = jnp.zeros((1, 8, 8, 4)), jnp.zeros((1, 12, 24))
    with pytest.raises(ValueError, match="24x16 pixels, the picture 16x16"):
        controlnet(*small, x, jnp.zeros(1), text, read)


def test_an_option_that_is_not_computed_is_refused(small):
    values = dataclasses.asdict(small[1])
    assert ControlNetConfig.from_json(values | {"act_fn": "silu"}) == small[1]
    assert ControlNetConfig.from_json(values | {"global_pool_conditions": False})
    with pytest.raises(ValueError, match="does not compute global_pool_conditions"):
        ControlNetConfig.from_json(values | {"global_pool_conditions": True})
    with pytest.raises(ValueError, match="expected one of rgb, bgr"):
        ControlNetConfig.from_json(
            values | {"controlnet_conditioning_channel_order": "gbr"}
        )

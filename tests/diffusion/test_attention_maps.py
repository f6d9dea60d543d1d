"""Attention maps of a sampling run: the averages, and the strength of a word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.concepts.bind import from_base
from personax.control.maps import Capture
from personax.diffusion import attention_maps
from personax.diffusion.denoiser import network
from personax.diffusion.sampling import start_noise
from personax.diffusion.solvers import SOLVERS
from personax.networks.tokenizer import positions
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import draw_latents

PROMPT = "a photo of a dog wearing a top hat"
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def model(emoji):
    return from_base(emoji)


@pytest.fixture(scope="module")
def shape(model):
    return model.denoiser.spec.latent_shape(32, 32)


def sampled(model, shape, spec, steps=3):
    """(latents, maps, grid) of two pictures."""
    solver = SOLVERS["ddim"]
    terms = prompt_terms.to_terms({"base": model}, [TermSpec(PROMPT, 3.0)])
    grid = solver.grid(model.denoiser.spec.schedule, steps)
    out = draw_latents(
        *(solver, shape, {"base": model.denoiser}, terms, grid, KEY, jnp.arange(2)),
        attention=spec,
    )
    return (*out, grid)


@pytest.fixture(scope="module")
def default(model, shape):
    """(latents, maps) with the default spec."""
    spec = attention_maps.make_map_spec(model.denoiser, shape)
    return sampled(model, shape, spec)[:2]


@pytest.fixture(scope="module")
def maps(default):
    return default[1]


def test_capturing_maps_does_not_change_the_picture(model, shape, default):
    # Two programs with sums in different orders.
    latents = sampled(model, shape, None)[0]
    np.testing.assert_allclose(latents, default[0], atol=1e-4)


def test_a_map_is_a_mean_of_probabilities(maps):
    assert maps.shape == (2, 2, 8, 8, 32)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    assert (maps >= 0).all()


def test_the_first_step_alone_is_the_map_of_its_own_forward_pass(model, shape):
    spec = attention_maps.make_map_spec(model.denoiser, shape, steps=(0.0, 0.34))
    _, maps, grid = sampled(model, shape, spec)
    x = grid.start * start_noise(jax.random.fold_in(KEY, 0), jnp.arange(2), shape)
    prompt = prompt_terms.to_prompt(model, PROMPT)
    prompt = prompt._replace(text=jnp.repeat(prompt.text, 2, axis=0))
    t = jnp.full(2, grid.t[0], jnp.float32)
    _, captured = network(model.denoiser, x, t, prompt, controls=(Capture(),))
    chosen = [
        probs.mean(1)
        for site, probs in captured.items()
        if probs.shape[2] == 64 and not site.startswith("mid")
    ]
    assert len(chosen) == 3
    expected = np.mean(chosen, axis=0).reshape(2, 8, 8, -1)
    np.testing.assert_allclose(maps[1], expected, atol=1e-5)


def test_a_words_map_is_its_tokens_mean(model, maps):
    at = positions(model.tokenizer, PROMPT, "top hat")
    assert len(at) == 2
    own = attention_maps.of_word(maps[1], at)
    np.testing.assert_allclose(own, maps[1][..., list(at)].mean(-1))


def test_the_dog_s_map_is_below_the_hat_s(model, maps):
    rows = np.arange(8)[None, :, None]

    def height(word):
        at = positions(model.tokenizer, PROMPT, word)
        own = np.asarray(attention_maps.of_word(maps[1], at))
        return (own * rows).sum((1, 2)) / own.sum((1, 2))

    assert (height("dog") > height("hat")).all()


def test_an_unknown_side_or_place_is_an_error(model, shape):
    with pytest.raises(ValueError, match=r"side 16; expected one of 4, 8\."):
        attention_maps.make_map_spec(model.denoiser, shape, side=16)
    with pytest.raises(ValueError, match="down, mid, up"):
        attention_maps.make_map_spec(model.denoiser, shape, places=("left",))
    with pytest.raises(ValueError, match="two shares in"):
        attention_maps.make_map_spec(model.denoiser, shape, steps=(0.5, 0.5))
    assert attention_maps.make_map_spec(model.denoiser, shape, side=4).side == (4, 4)


def test_strength_is_the_mean_within_the_region():
    own = jnp.array([[[0.4, 0.3], [0.1, 0.0]]])
    region = attention_maps.object_region(own)
    assert region.tolist() == [[[True, True], [False, False]]]
    np.testing.assert_allclose(attention_maps.strength(own, region), [0.35], rtol=1e-6)

"""Attention maps of a sampling: what is averaged, and what a word's strength is."""

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


def drawn(model, shape, look, steps=3):
    solver = SOLVERS["ddim"]
    terms = prompt_terms.to_terms({"base": model}, [TermSpec(PROMPT, 3.0)])
    grid = solver.grid(model.denoiser.spec.schedule, steps)
    found = draw_latents(
        *(solver, shape, {"base": model.denoiser}, terms, grid, KEY, jnp.arange(2)),
        attention=look,
    )
    return (*found, grid) if look else found.latents


@pytest.fixture(scope="module")
def seen(model, shape):
    return drawn(model, shape, attention_maps.make_map_spec(model.denoiser, shape))


def test_looking_does_not_change_the_picture(model, shape, seen):
    # Another program for the same sums.
    np.testing.assert_allclose(drawn(model, shape, None), seen[0], atol=1e-4)


def test_a_map_is_a_mean_of_probabilities(seen):
    maps = seen[1]
    assert maps.shape == (2, 2, 8, 8, 32)
    np.testing.assert_allclose(maps.sum(-1), 1, atol=1e-5)
    assert (maps >= 0).all()


def test_the_first_step_alone_is_the_map_of_its_own_forward_pass(model, shape):
    look = attention_maps.make_map_spec(model.denoiser, shape, steps=(0.0, 0.34))
    _, maps, grid = drawn(model, shape, look)
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
    want = np.mean(chosen, axis=0).reshape(2, 8, 8, -1)
    np.testing.assert_allclose(maps[1], want, atol=1e-5)


def test_a_words_map_is_its_tokens_mean(model, seen):
    at = positions(model.tokenizer, PROMPT, "top hat")
    assert len(at) == 2
    found = attention_maps.of_word(seen[1][1], at)
    np.testing.assert_allclose(found, seen[1][1][..., list(at)].mean(-1))


def test_the_dog_is_looked_for_below_the_hat(model, seen):
    rows = np.arange(8)[None, :, None]

    def height(word):
        own = np.asarray(
            attention_maps.of_word(seen[1][1], positions(model.tokenizer, PROMPT, word))
        )
        return (own * rows).sum((1, 2)) / own.sum((1, 2))

    assert (height("dog") > height("hat")).all()


def test_a_side_or_place_that_is_not_there_is_refused(model, shape):
    with pytest.raises(ValueError, match=r"side 16: 4, 8\."):
        attention_maps.make_map_spec(model.denoiser, shape, side=16)
    with pytest.raises(ValueError, match="down, mid, up"):
        attention_maps.make_map_spec(model.denoiser, shape, places=("left",))
    with pytest.raises(ValueError, match="no range of shares"):
        attention_maps.make_map_spec(model.denoiser, shape, steps=(0.5, 0.5))
    assert attention_maps.make_map_spec(model.denoiser, shape, side=4).side == (4, 4)


def test_strength_is_the_mean_within_the_region():
    own = jnp.array([[[0.4, 0.3], [0.1, 0.0]]])
    region = attention_maps.object_region(own)
    assert region.tolist() == [[[True, True], [False, False]]]
    np.testing.assert_allclose(attention_maps.strength(own, region), [0.35], rtol=1e-6)

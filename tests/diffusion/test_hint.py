"""Hints in guidance: for which terms a ControlNet runs, how strongly, and how often."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.control.maps import Borrow
from personax.diffusion import paired
from personax.diffusion.denoiser import (
    FROZEN,
    Denoiser,
    Prompt,
    encode_hint,
    predict,
    with_controlnet,
)
from personax.diffusion.guidance import Term, guide
from personax.diffusion.sampling import sample
from personax.diffusion.solvers import SOLVERS
from personax.networks.controlnet import ControlNetConfig, init_controlnet
from personax.networks.unet import init_unet
from tests.random_params import random_params
from tests.small_configs import ONE_BLOCK

pytestmark = pytest.mark.quick
T = jnp.array(500.0)
X = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))
HINTS = jax.random.uniform(jax.random.key(1), (2, 16, 16, 3))


@pytest.fixture(scope="module")
def plain(tiny_spec):
    """A denoiser of one block each way, which compiles in half the time of `tiny`."""
    config = ONE_BLOCK.unet
    shapes = jax.eval_shape(lambda: init_unet(jax.random.key(0), config))
    spec = dataclasses.replace(tiny_spec, unet=config)
    return Denoiser({"unet": random_params(shapes)}, spec=spec)


@pytest.fixture(scope="module")
def controlled(plain):
    """The same with a ControlNet that has been somewhere."""
    config = ControlNetConfig.of(plain.spec.unet, (4, 8))
    shapes = jax.eval_shape(lambda: init_controlnet(jax.random.key(0), config))
    return with_controlnet(plain, random_params(shapes), config)


@pytest.fixture(scope="module")
def prompts():
    return [
        Prompt(text) for text in jax.random.normal(jax.random.key(2), (2, 1, 12, 24))
    ]


@pytest.fixture(scope="module")
def alone():
    """`(denoiser, prompt, hints, strength) -> eps` of X, without any guidance."""

    @jax.jit
    def run(denoiser, prompt, hints, strength):
        text = jnp.broadcast_to(prompt.text, (2, 12, 24))
        concept_mask = None
        if prompt.concept_mask is not None:
            concept_mask = jnp.broadcast_to(prompt.concept_mask, (1, 2, 12))
        hint = None
        if hints is not None:
            hint = encode_hint(denoiser, hints, jnp.full((2,), strength))
        t = jnp.full((2,), T)
        return predict(denoiser, X, t, Prompt(text, concept_mask), hint=hint)[0]

    return run


TRACES = []


@jax.jit
def guided(denoiser, terms, i):
    TRACES.append(len(terms))
    return guide({"base": denoiser}, terms)(X, T, i)[0]


def terms_of(prompts, hint, strength=None):
    null, prompt = prompts
    shown = Term(prompt, jnp.float32(3.0), hint=hint, strength=strength)
    return [Term(null, jnp.float32(-2.0)), shown]


def test_a_controlnet_steers_the_terms_that_have_a_hint(controlled, prompts, alone):
    empty = alone(controlled, prompts[0], None, 1.0)
    full = alone(controlled, prompts[1], HINTS, 0.5)
    ours = guided(controlled, terms_of(prompts, HINTS, jnp.float32(0.5)), jnp.array(0))
    np.testing.assert_allclose(ours, -2 * empty + 3 * full, atol=1e-4)
    without = alone(controlled, prompts[1], None, 1.0)
    assert np.abs(full - without).max() > 0.01
    full = alone(controlled, prompts[1], HINTS, 1.0)  # None is 1
    ours = guided(controlled, terms_of(prompts, HINTS), jnp.array(0))
    np.testing.assert_allclose(ours, -2 * empty + 3 * full, atol=1e-4)


def test_one_picture_stands_for_all_images(controlled, prompts):
    one, both = HINTS[:1], jnp.repeat(HINTS[:1], 2, axis=0)
    # Two programs: they agree to the last bit on some CPUs only.
    np.testing.assert_allclose(
        guided(controlled, terms_of(prompts, one), jnp.array(0)),
        guided(controlled, terms_of(prompts, both), jnp.array(0)),
        atol=1e-5,
    )


def test_the_strength_may_change_from_step_to_step_and_compiles_nothing(
    controlled, prompts, alone
):
    strengths = jnp.array([1.0, 0.0])
    first = guided(controlled, terms_of(prompts, HINTS, strengths), jnp.array(0))
    traced = len(TRACES)
    last = guided(controlled, terms_of(prompts, HINTS, strengths), jnp.array(1))
    other = guided(controlled, terms_of(prompts, HINTS, 2 * strengths), jnp.array(0))
    assert len(TRACES) == traced
    empty, full = (alone(controlled, prompt, None, 1.0) for prompt in prompts)
    np.testing.assert_allclose(last, -2 * empty + 3 * full, atol=1e-4)
    assert np.abs(first - last).max() > 0.01
    assert np.abs(first - other).max() > 0.01


def test_terms_without_a_hint_go_apart(controlled, prompts, monkeypatch):
    calls = []

    def counted(denoiser, x, t, prompt, hint):
        calls.append((x.shape[0], None if hint is None else hint.features.shape[0]))
        return x, {}

    monkeypatch.setattr("personax.diffusion.guidance.network", counted)

    def run(terms):
        return guide({"base": controlled}, terms)(X, T, jnp.array(0))[0]

    terms = terms_of(prompts, HINTS[:1])
    jax.eval_shape(run, terms)
    assert calls == [(2, None), (2, 2)]
    calls.clear()
    jax.eval_shape(run, [term.replace(hint=HINTS) for term in terms])
    assert calls == [(4, 4)]


def test_the_hint_encoder_runs_once_and_not_at_every_step(controlled, prompts):
    solver = SOLVERS["ddim"]
    grid = solver.grid(controlled.spec.schedule, 3)

    def draw(hint):
        eps = guide({"base": controlled}, terms_of(prompts, hint))
        return sample(eps, solver, grid, X)

    program = jax.make_jaxpr(draw)(HINTS[:1])
    scan = next(eqn for eqn in program.eqns if eqn.primitive.name == "scan")
    inside = "1,16,16,4"  # the hint encoder's first layer
    assert inside in str(program)
    assert inside not in str(scan)


def test_a_hint_for_a_model_without_a_controlnet_is_refused(plain, prompts):
    with pytest.raises(ValueError, match="a model with a ControlNet"):
        guide({"base": plain}, terms_of(prompts, HINTS))


def test_a_frozen_stream_sees_the_hint_too(controlled, plain, prompts, alone):
    follower = plain.replace(reference=plain, controls=(Borrow(source=FROZEN),))
    follower = with_controlnet(
        follower, controlled.params["controlnet"], controlled.spec.controlnet
    )
    marked = Prompt(prompts[1].text, jnp.zeros((1, 1, 12), bool).at[..., 3].set(True))
    np.testing.assert_allclose(
        alone(follower, marked, HINTS, 1.0),
        alone(controlled, prompts[1], HINTS, 1.0),
        atol=1e-4,
    )


def test_a_pair_of_pictures_is_steered_as_one_is(controlled, prompts):
    terms = tuple(terms_of(prompts, HINTS))

    @jax.jit
    def one_stream(denoiser, terms):
        streams = [paired.Stream(terms)]
        return paired.pair({"base": denoiser}, streams)(X, T, jnp.array(0))[0]

    np.testing.assert_allclose(
        one_stream(controlled, terms),
        guided(controlled, list(terms), jnp.array(0)),
        atol=1e-4,
    )

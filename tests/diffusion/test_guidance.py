"""Guidance: the algebra of weighted terms, and what it costs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personax.diffusion.denoiser import Denoiser, Prompt, predict
from personax.diffusion.guidance import Term, cfg, complete, guide

pytestmark = pytest.mark.quick
WEIGHTS = st.floats(-5, 10, width=32)


@pytest.fixture(scope="module")
def setting(tiny):
    """(denoisers, three prompts, latents, the plain prediction of each prompt)."""
    keys = jax.random.split(jax.random.key(0), 4)
    prompts = [Prompt(jax.random.normal(key, (1, 12, 24))) for key in keys[:3]]
    x = jax.random.normal(keys[3], (2, 8, 8, 4))

    @jax.jit
    def plain(x, text):
        prompt = Prompt(jnp.broadcast_to(text, (2, 12, 24)))
        return predict(tiny, x, jnp.full((2,), 500.0), prompt)[0]

    return {"base": tiny}, prompts, x, [plain(x, prompt.text) for prompt in prompts]


TRACES = []  # one entry for every time that `guided` is compiled


@jax.jit
def guided(denoisers, terms, x):
    TRACES.append(len(terms))
    return guide(denoisers, terms)(x, jnp.array(500.0), jnp.array(1))[0]


def term(prompt, weight):
    return Term(prompt, jnp.asarray(weight, jnp.float32))


@settings(max_examples=20, deadline=None)
@given(weight=WEIGHTS)
def test_one_term_is_classifier_free_guidance(setting, weight):
    denoisers, (null, prompt, _), x, (empty, full, _) = setting
    expected = empty + weight * (full - empty)  # Ho & Salimans 2022
    ours = guided(denoisers, cfg(prompt, null, jnp.float32(weight)), x)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(first=WEIGHTS, second=WEIGHTS)
def test_terms_add_up_as_the_formula_says(setting, first, second):
    denoisers, (null, a, b), x, (empty, of_a, of_b) = setting
    terms = complete([term(a, first), term(b, second)], null)
    expected = empty + first * (of_a - empty) + second * (of_b - empty)
    np.testing.assert_allclose(guided(denoisers, terms, x), expected, atol=1e-4)


@settings(max_examples=10, deadline=None)
@given(weight=WEIGHTS)
def test_equal_terms_give_that_term_whatever_the_weight(setting, weight):
    denoisers, (_, prompt, _), x, (_, full, _) = setting
    terms = complete([term(prompt, weight), term(prompt, 1.5)], prompt)
    np.testing.assert_allclose(guided(denoisers, terms, x), full, atol=1e-4)


def test_a_zero_weight_takes_its_term_away(setting):
    denoisers, (null, a, b), x, _ = setting
    with_zero = guided(denoisers, complete([term(a, 3.0), term(b, 0.0)], null), x)
    without = guided(denoisers, complete([term(a, 3.0)], null), x)
    np.testing.assert_allclose(with_zero, without, atol=1e-5)


def test_a_negative_prompt_takes_the_place_of_the_empty_one(setting):
    denoisers, (_, prompt, negative), x, (_, full, of_negative) = setting
    ours = guided(denoisers, cfg(prompt, negative, jnp.float32(7.5)), x)
    # What diffusers calls negative_prompt.
    expected = of_negative + 7.5 * (full - of_negative)
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_a_negative_weight_pushes_away(setting):
    denoisers, (null, a, b), x, (empty, of_a, of_b) = setting
    terms = complete([term(a, 5.0), term(b, -2.0)], null)
    expected = empty + 5 * (of_a - empty) - 2 * (of_b - empty)
    np.testing.assert_allclose(guided(denoisers, terms, x), expected, atol=1e-4)


def test_two_models_each_speak_for_their_terms(setting, tiny):
    _, (null, prompt, _), x, (empty, _, _) = setting
    other = tiny.replace(params=jax.tree.map(lambda leaf: 0.9 * leaf, tiny.params))
    denoisers = {"base": tiny, "face": other}
    terms = complete([Term(prompt, jnp.float32(2.0), "face")], null)
    alone = guided({"face": other}, [Term(prompt, jnp.float32(1.0), "face")], x)
    expected = empty + 2 * (alone - empty)
    np.testing.assert_allclose(guided(denoisers, terms, x), expected, atol=1e-4)


def test_a_weight_may_change_from_step_to_step(setting):
    denoisers, (null, prompt, _), x, (empty, full, _) = setting
    weights = jnp.array([1.0, 4.0, 9.0])  # `guided` asks for evaluation 1
    ours = guided(denoisers, cfg(prompt, null, weights), x)
    np.testing.assert_allclose(ours, empty + 4 * (full - empty), atol=1e-4)


def test_other_weights_and_prompts_compile_nothing(setting):
    denoisers, (null, a, b), x, _ = setting
    guided(denoisers, cfg(a, null, jnp.float32(1.0)), x)
    before = len(TRACES)
    guided(denoisers, cfg(b, null, jnp.float32(9.0)), x)
    assert len(TRACES) == before


def test_terms_of_one_model_share_one_call(setting, monkeypatch):
    denoisers, (null, a, b), x, _ = setting
    calls = []

    def counted(denoiser, x, t, prompt, hint=None):
        calls.append(x.shape[0])
        return x, {}

    monkeypatch.setattr("personax.diffusion.guidance.network", counted)
    terms = complete([term(a, 3.0), term(b, 2.0)], null)
    guide(denoisers, terms)(x, jnp.array(500.0), jnp.array(0))
    assert calls == [3 * 2]


def test_an_unknown_model_and_an_empty_list_are_refused(setting):
    denoisers, (null, _, _), _, _ = setting
    with pytest.raises(KeyError, match="expected one of base"):
        guide(denoisers, [Term(null, jnp.float32(1.0), "fase")])
    with pytest.raises(ValueError, match="at least one"):
        guide(denoisers, [])


def test_v_prediction_is_guided_as_v(tiny, tiny_spec, setting):
    """The solver converts it, at the rates of its row."""
    import dataclasses

    _, (_, prompt, _), x, (_, full, _) = setting
    schedule = dataclasses.replace(tiny_spec.schedule, prediction_type="v_prediction")
    spec = dataclasses.replace(tiny_spec, schedule=schedule)
    velocity = Denoiser(tiny.params, spec=spec)
    ours = guided({"base": velocity}, [term(prompt, 1.0)], x)
    np.testing.assert_allclose(ours, full, atol=1e-5)

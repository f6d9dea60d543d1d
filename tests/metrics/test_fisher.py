"""The latent Fisher divergence of denoisers with a known difference."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from personax.core.tree import flat, overwrite
from personax.diffusion import schedule
from personax.diffusion.denoiser import Prompt, encode
from personax.metrics.fisher import divergences

ROWS = 32
OFFSET = np.array([0.5, -0.25, 0.125, 1.0], np.float32)  # of the latents' channels
BIAS = "unet/conv_out/bias"


@pytest.fixture(scope="module")
def x0():
    return jax.random.normal(jax.random.key(1), (ROWS, 8, 8, 4))


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(2), ROWS)


@pytest.fixture(scope="module")
def prompt(tiny):
    ids = jax.random.randint(jax.random.key(3), (ROWS, 12), 1, 62)
    return encode(tiny, ids)


def shifted(denoiser, offset):
    """The denoiser with a constant per channel added to its noise."""
    bias = flat(denoiser.params)[BIAS]
    return denoiser.replace(
        params=overwrite(denoiser.params, {BIAS: bias + jnp.asarray(offset)})
    )


def between(*args):
    """The divergence of two denoisers at each latent."""
    return divergences(*args)[0]


def test_a_denoiser_has_no_divergence_from_itself(tiny, x0, prompt, keys):
    """Exactly, also if weights and prompts are copies."""
    copy = jax.tree.map(jnp.copy, tiny)
    value = between(tiny, copy, x0, (prompt, jax.tree.map(jnp.copy, prompt)), keys)
    np.testing.assert_array_equal(value, np.zeros(ROWS))


def test_a_constant_between_the_noises_has_a_closed_form(tiny, x0, prompt, keys):
    value = between(tiny, shifted(tiny, OFFSET), x0, (prompt, prompt), keys)
    expected = 64 * np.square(OFFSET).sum() / 2
    np.testing.assert_allclose(value, expected, rtol=1e-5)


def test_time_is_uniform(tiny, x0, prompt):
    """Weighted over unweighted is 1 / (1 - ᾱ_t), which determines each row's time."""
    denoisers, prompts, times = (tiny, shifted(tiny, OFFSET)), (prompt, prompt), []
    bars = schedule.alphas_cumprod(tiny.spec.schedule)
    for seed in range(8):
        keys = jax.random.split(jax.random.key(seed), ROWS)
        plain, score = divergences(*denoisers, x0, prompts, keys)
        bar = 1 - np.asarray(plain / score, np.float64)
        times.extend(np.abs(bars[:, None] - bar).argmin(axis=0))
    uniform = scipy.stats.kstest(np.array(times) / 1000, "uniform")
    assert uniform.pvalue > 0.01
    assert min(times) < 30
    assert max(times) > 970


def test_each_row_has_its_own_key(tiny, x0, prompt, keys):
    other = jax.tree.map(lambda x: 1.1 * x, tiny)
    whole = between(tiny, other, x0, (prompt, prompt), keys)
    turned = Prompt(prompt.text[::-1])
    value = between(tiny, other, x0[::-1], (turned, turned), keys[::-1])
    np.testing.assert_allclose(value[::-1], whole, rtol=1e-4)
    assert len(np.unique(np.asarray(whole))) == ROWS


def test_each_denoiser_reads_its_own_prompt(tiny, x0, prompt, keys):
    shuffled = Prompt(prompt.text[::-1])
    apart = between(tiny, tiny, x0, (prompt, shuffled), keys)
    assert (np.asarray(apart) > 0).all()
    assert not between(tiny, tiny, x0, (shuffled, shuffled), keys).any()


def test_a_denoiser_that_is_not_finite_has_none(tiny, x0, prompt, keys):
    value = between(tiny, shifted(tiny, np.nan * OFFSET), x0, (prompt, prompt), keys)
    assert np.isnan(value).all()


def test_different_schedules_are_refused(tiny, x0, prompt, keys):
    other = dataclasses.replace(tiny.spec.schedule, beta_end=0.02)
    spec = dataclasses.replace(tiny.spec, schedule=other)
    with pytest.raises(ValueError, match="different noise schedules"):
        between(tiny, dataclasses.replace(tiny, spec=spec), x0, (prompt, prompt), keys)

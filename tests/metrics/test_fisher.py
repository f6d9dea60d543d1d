"""The latent Fisher divergence of denoisers that differ in a known way, or not."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from personax.core.tree import flat, overwrite
from personax.diffusion import schedule
from personax.diffusion.denoiser import Prompt, encode
from personax.metrics.fisher import between, divergence

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


def moved(denoiser, offset):
    """The denoiser whose every noise is larger by a constant of each channel."""
    bias = flat(denoiser.params)[BIAS]
    return denoiser.replace(
        params=overwrite(denoiser.params, {BIAS: bias + jnp.asarray(offset)})
    )


def test_a_denoiser_is_at_no_distance_from_itself(tiny, x0, prompt, keys):
    """To the last bit, also where its weights and prompts are copies."""
    copy = jax.tree.map(jnp.copy, tiny)
    found = between(tiny, copy, x0, (prompt, jax.tree.map(jnp.copy, prompt)), keys)
    np.testing.assert_array_equal(found.total, np.zeros(ROWS))
    np.testing.assert_array_equal(found.mean, np.zeros(ROWS))


def test_a_constant_between_the_noises_has_a_closed_form(tiny, x0, prompt, keys):
    found = between(tiny, moved(tiny, OFFSET), x0, (prompt, prompt), keys)
    expected = 64 * np.square(OFFSET).sum() / 2
    np.testing.assert_allclose(found.total, expected, rtol=1e-5)
    np.testing.assert_allclose(found.mean, expected / 256, rtol=1e-5)


def test_time_is_uniform_and_a_scores_weight_is_its_own(tiny, x0, prompt):
    """Weighted over unweighted is 1 / (1 - ᾱ_t), which says each row's time."""
    denoisers, prompts, times = (tiny, moved(tiny, OFFSET)), (prompt, prompt), []
    bars = schedule.alphas_cumprod(tiny.spec.schedule)
    for seed in range(8):
        keys = jax.random.split(jax.random.key(seed), ROWS)
        plain = between(*denoisers, x0, prompts, keys).total
        score = between(*denoisers, x0, prompts, keys, weight="score").total
        bar = 1 - np.asarray(plain / score, np.float64)
        times.extend(np.abs(bars[:, None] - bar).argmin(axis=0))
    uniform = scipy.stats.kstest(np.array(times) / 1000, "uniform")
    assert uniform.pvalue > 0.01
    assert min(times) < 30
    assert max(times) > 970


def test_each_row_is_drawn_from_its_own_key(tiny, x0, prompt, keys):
    other = jax.tree.map(lambda x: 1.1 * x, tiny)
    whole = between(tiny, other, x0, (prompt, prompt), keys).total
    turned = Prompt(prompt.text[::-1])
    found = between(tiny, other, x0[::-1], (turned, turned), keys[::-1]).total
    np.testing.assert_allclose(found[::-1], whole, rtol=1e-4)
    assert len(np.unique(np.asarray(whole))) == ROWS


def test_each_denoiser_reads_its_own_prompt(tiny, x0, prompt, keys):
    shuffled = Prompt(prompt.text[::-1])
    apart = between(tiny, tiny, x0, (prompt, shuffled), keys).total
    assert (np.asarray(apart) > 0).all()
    assert not between(tiny, tiny, x0, (shuffled, shuffled), keys).total.any()


def test_half_the_squares_are_summed_and_a_nan_is_kept():
    eps = jnp.zeros((2, 2, 2, 4)).at[1, 0, 0, 0].set(jnp.nan)
    found = divergence(eps, jnp.ones((2, 2, 2, 4)), alpha_bar=jnp.array([0.75, 0.5]))
    assert (found.total[0], found.mean[0]) == (8 / 0.25, 8 / 0.25 / 16)
    assert np.isnan(found.total[1])
    nothing = divergence(eps[:0], eps[:0])
    assert nothing.total.shape == (0,)


def test_what_is_not_compared_is_said(tiny, x0, prompt, keys):
    with pytest.raises(ValueError, match="weight='snr'; expected none or score"):
        between(tiny, tiny, x0, (prompt, prompt), keys, weight="snr")
    other = dataclasses.replace(tiny.spec.schedule, beta_end=0.02)
    spec = dataclasses.replace(tiny.spec, schedule=other)
    with pytest.raises(ValueError, match="different noise schedules"):
        between(tiny, tiny.replace(spec=spec), x0, (prompt, prompt), keys)

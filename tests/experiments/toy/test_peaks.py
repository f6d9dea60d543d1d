"""Mixtures of peaks: their densities against scipy, their scores against jax.grad."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from experiments.toy import peaks

MIXTURE = peaks.Peaks(
    jnp.array([[-1.0, 0.5], [1.5, 1.0], [0.0, -2.0]]),
    jnp.array([[0.3, 0.3], [0.5, 0.05], [0.1, 0.4]]),
)
TIMES = jnp.array([0.0, 0.05, 0.3, 0.7, 1.0])
X = 1.5 * jax.random.normal(jax.random.key(0), (5, 2))


def test_the_density_is_scipys():
    angle = np.pi / 2 * np.asarray(TIMES, np.float64)
    for x, t, signal, noise in zip(X, TIMES, np.cos(angle), np.sin(angle), strict=True):
        each = [
            scipy.stats.multivariate_normal(
                signal * np.asarray(centre, np.float64),
                np.diag(np.square(signal * np.asarray(scale)) + noise**2),
            ).logpdf(np.asarray(x))
            for centre, scale in zip(*MIXTURE, strict=True)
        ]
        expected = scipy.special.logsumexp(each) - np.log(3)
        found = peaks.log_density(MIXTURE, x[None], t[None])[0]
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_the_score_is_the_gradient_of_the_log_density():
    gradient = jax.vmap(
        jax.grad(lambda x, t: peaks.log_density(MIXTURE, x[None], t[None])[0])
    )(X, TIMES)
    np.testing.assert_allclose(
        peaks.score(MIXTURE, X, TIMES), gradient, rtol=1e-4, atol=1e-4
    )


def test_the_velocity_is_the_mean_of_the_target_given_a_point():
    """Against draws of the mixture, weighted by how likely they become that point."""
    z = np.asarray(peaks.draw(jax.random.key(1), MIXTURE, 400_000), np.float64)
    for x, t in zip(np.asarray(X[2:]), np.asarray(TIMES[2:]), strict=True):
        signal, noise = np.cos(np.pi / 2 * t), np.sin(np.pi / 2 * t)
        eps = (x - signal * z) / noise
        weights = np.exp(-np.square(eps).sum(1) / 2)
        expected = np.average(signal * eps - noise * z, axis=0, weights=weights)
        found = peaks.velocity(MIXTURE, jnp.asarray(x)[None], jnp.asarray(t)[None])[0]
        np.testing.assert_allclose(found, expected, atol=0.02)


def test_minus_eps_is_the_score_times_the_noise_rate():
    velocity = peaks.velocity(MIXTURE, X, TIMES)
    noise = peaks.rates(TIMES)[1]
    np.testing.assert_allclose(
        -peaks.noise_of(velocity, X, TIMES),
        noise * peaks.score(MIXTURE, X, TIMES),
        atol=1e-4,
    )


def test_eps_of_the_target_is_the_noise_that_was_added():
    z, eps = X, X[::-1]
    x = peaks.add_noise(z, TIMES, eps)
    found = peaks.noise_of(peaks.target(z, TIMES, eps), x, TIMES)
    np.testing.assert_allclose(found, eps, atol=1e-6)


def test_draws_have_the_mixtures_moments():
    z = np.asarray(peaks.draw(jax.random.key(2), MIXTURE, 100_000))
    mean = np.asarray(MIXTURE.centres).mean(0)
    second = (np.square(MIXTURE.centres) + np.square(MIXTURE.scales)).mean(0)
    np.testing.assert_allclose(z.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(np.square(z).mean(0), second, rtol=0.02)


def test_even_draws_are_of_all_peaks_in_turn():
    far = peaks.peaks([(0, 0), (9, 0), (0, 9)], (0.1, 0.1))
    z = peaks.draw(jax.random.key(3), far, 30, evenly=True)
    assert peaks.inside(far, z, radius=9.0).sum(0).tolist() == [10, 10, 10]


def test_three_standard_deviations_hold_what_they_should():
    one = peaks.peaks([(1.0, -1.0)], (0.5, 0.02))
    z = peaks.draw(jax.random.key(4), one, 100_000)
    share = float(peaks.inside(one, z).mean())
    assert share == pytest.approx(1 - np.exp(-4.5), abs=1e-3)


def test_lines_are_beneath_their_peaks():
    lines = peaks.below(MIXTURE, 0.8, (0.3, 0.03))
    gap = np.asarray(MIXTURE.centres - lines.centres)
    np.testing.assert_allclose(gap, [[0, 0.8]] * 3, atol=1e-6)
    np.testing.assert_allclose(lines.scales, [[0.3, 0.03]] * 3)

"""Solvers on a Gaussian, where the score, the flow and DDIM's own steps are known.

z0 ~ N(MEAN, STD²): x at (signal, noise) is N(signal MEAN, V) with
V = signal² STD² + noise², E[eps | x] = noise (x - signal MEAN) / V, and the probability
flow keeps (x - signal MEAN) / sqrt(V).
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.diffusion.sampling import image_keys, sample, start_noise
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS, ddim

MEAN, STD = 0.7, 0.4
SCHEDULE = ScheduleConfig(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
)
# Constant betas above a noisy first level: no solver's grid has a singular end here.
SMOOTH = ScheduleConfig(
    trained_betas=(0.1,) + (2e-4,) * 19999, num_train_timesteps=20000
)
STOCHASTIC = ("ddpm", "ddim_eta", "euler_ancestral", "dpmpp_2m_sde")
ALL = {**SOLVERS, "ddim_eta": ddim(eta=0.7)}


def variance(signal, noise):
    return signal**2 * STD**2 + noise**2


def exact(grid):
    """The Gaussian's eps at the level where the network sees x on each row."""
    again = getattr(grid, "again", jnp.zeros(grid.t.shape, bool))
    signal = jnp.where(again, grid.next_signal, grid.signal)
    noise = jnp.where(again, grid.next_noise, grid.noise)

    def eps_fn(x, t, i):
        v = variance(signal[i], noise[i])
        return noise[i] * (x - signal[i] * MEAN) / v, {}

    return eps_fn


def start(count=5):
    return start_noise(jax.random.key(0), jnp.arange(count), (4, 4, 2))


def keys(count=5):
    return image_keys(jax.random.key(1), jnp.arange(count))


def flow(x, grid):
    """Where the probability flow takes x over the whole grid."""
    ends = [np.asarray(v, np.float64) for v in (grid.signal[0], grid.noise[0])]
    last = [
        np.asarray(v, np.float64) for v in (grid.next_signal[-1], grid.next_noise[-1])
    ]
    scale = np.sqrt(variance(*last) / variance(*ends))
    return last[0] * MEAN + scale * (np.asarray(x) - ends[0] * MEAN)


def error(name, schedule, steps):
    """Largest distance from the flow, the final step to no noise left out."""
    grid = SOLVERS[name].grid(schedule, steps)
    grid = jax.tree.map(lambda column: column[:-1], grid)
    x = start()
    return np.abs(sample(exact(grid), SOLVERS[name], grid, x) - flow(x, grid)).max()


@pytest.mark.parametrize("steps", [1, 5, 50])
def test_ddim_is_its_closed_form(steps):
    grid = SOLVERS["ddim"].grid(SCHEDULE, steps)
    a, s, b, r = (
        np.asarray(column, np.float64)
        for column in (grid.signal, grid.noise, grid.next_signal, grid.next_noise)
    )
    factor = np.prod((a * b * STD**2 + s * r) / variance(a, s))
    expected = b[-1] * MEAN + factor * (np.asarray(start()) - a[0] * MEAN)
    actual = sample(exact(grid), SOLVERS["ddim"], grid, start())
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "order"),
    [("ddim", 1), ("euler", 1), ("heun", 2), ("dpmpp_2m", 2), ("plms", 2)],
)
def test_order_of_convergence(name, order):
    """Doubling the steps divides the error by 2^order.

    PLMS weights predictions for equal steps in sigma, which it does not have: of its
    four orders two are left.
    """
    over_times = name in ("ddim", "plms")
    schedule = dataclasses.replace(SMOOTH, use_karras_sigmas=not over_times)
    coarse, fine = error(name, schedule, 30), error(name, schedule, 60)
    assert np.log2(coarse / fine) == pytest.approx(order, abs=0.3)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_random_solvers_draw_from_the_gaussian(name):
    """8000 draws: their standard error is 0.005 in the mean and 0.003 in the spread.

    The posterior's variance leaves out that of z0 given x: the spread is 0.01 too small
    at 400 steps, by the closed form of these linear steps.
    """
    grid = ALL[name].grid(SCHEDULE, 400)
    z = sample(exact(grid), ALL[name], grid, start(250), keys(250))
    assert float(z.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(z.std()) == pytest.approx(STD, abs=0.02)


@pytest.mark.parametrize("name", STOCHASTIC)
def test_an_image_does_not_depend_on_its_batch(name):
    grid = ALL[name].grid(SCHEDULE, 5)
    whole = sample(exact(grid), ALL[name], grid, start(), keys())
    part = sample(exact(grid), ALL[name], grid, start()[3:], keys()[3:])
    np.testing.assert_allclose(whole[3:], part, atol=1e-6)
    assert np.abs(whole[0] - whole[1]).max() > 0.1


@pytest.mark.parametrize("name", STOCHASTIC)
def test_random_solvers_need_keys(name):
    grid = ALL[name].grid(SCHEDULE, 5)
    with pytest.raises(ValueError, match="keys"):
        sample(exact(grid), ALL[name], grid, start())


@pytest.mark.parametrize(
    ("name", "evaluations"), [("ddim", 7), ("heun", 13), ("plms", 8), ("dpmpp_2m", 7)]
)
def test_rows_are_evaluations(name, evaluations):
    assert SOLVERS[name].grid(SCHEDULE, 7).t.shape == (evaluations,)


@pytest.mark.parametrize("name", SOLVERS)
def test_one_step_is_possible(name):
    grid = SOLVERS[name].grid(SCHEDULE, 1)
    z = sample(exact(grid), SOLVERS[name], grid, start(), keys())
    assert np.isfinite(z).all()


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_clipping_bounds_the_result(name):
    schedule = dataclasses.replace(
        SCHEDULE, clip_sample=True, clip_sample_range=0.25, set_alpha_to_one=True
    )

    def largest(schedule):
        grid = SOLVERS[name].grid(schedule, 10)
        z = sample(exact(grid), SOLVERS[name], grid, start(), keys())
        return float(jnp.abs(z).max())

    assert largest(schedule) <= 0.25 + 1e-6
    assert largest(dataclasses.replace(schedule, clip_sample=False)) > 0.3


@pytest.mark.parametrize("name", ["ddpm", "ddim", "plms"])
def test_karras_sigmas_need_a_solver_over_sigmas(name):
    schedule = dataclasses.replace(SCHEDULE, use_karras_sigmas=True)
    with pytest.raises(ValueError, match="dpmpp_2m"):
        SOLVERS[name].grid(schedule, 10)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match="1 to 1000"):
        SOLVERS["ddim"].grid(SCHEDULE, steps)


def test_an_offset_beyond_the_last_time_is_refused():
    with pytest.raises(ValueError, match="steps_offset=1"):
        SOLVERS["ddim"].grid(SCHEDULE, 1000)

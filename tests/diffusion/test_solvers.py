"""Solvers on a Gaussian, where the score, the flow and DDIM's own steps are known.

z0 ~ N(MEAN, STD²): x at (signal, noise) is N(signal MEAN, V) with
V = signal² STD² + noise², E[eps | x] = noise (x - signal MEAN) / V, and the probability
flow keeps (x - signal MEAN) / sqrt(V).
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.diffusion.sampling import image_keys, sample, start_noise
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS, ddim
from personax.diffusion.solvers.grid import rows_of, steps_of
from tests.small_configs import BETAS

MEAN, STD = 0.7, 0.4
SCHEDULE = ScheduleConfig(**BETAS, steps_offset=1)
# Constant betas above a noisy first level: no solver's grid has a singular end here.
SMOOTH = ScheduleConfig(
    trained_betas=(0.1,) + (2e-4,) * 19999, num_train_timesteps=20000
)
TO_THE_GAUSSIAN = ("ddpm", "ddim_eta", "euler_ancestral", "dpmpp_2m_sde")
STOCHASTIC = (*TO_THE_GAUSSIAN, "lcm")
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
    [
        ("ddim", 1),
        ("euler", 1),
        ("heun", 2),
        ("dpmpp_2m", 2),
        ("plms", 2),
        ("deis", 2),
        ("lms", 4),
    ],
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


def test_the_corrector_of_unipc_reduces_the_error():
    """Its predictor alone is of the second order, as DPM-Solver++(2M) is."""
    schedule = dataclasses.replace(SMOOTH, use_karras_sigmas=True)
    assert error("unipc", schedule, 30) < error("dpmpp_2m", schedule, 30) / 2


@pytest.mark.parametrize("name", TO_THE_GAUSSIAN)
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


def test_lcm_has_times_of_its_own():
    for steps in (0, 51):
        with pytest.raises(ValueError, match=r"in \[1, 50\] for the solver lcm"):
            SOLVERS["lcm"].grid(SCHEDULE, steps)
    schedule = dataclasses.replace(SCHEDULE, timestep_spacing="trailing")
    with pytest.raises(ValueError, match="no spacing such as trailing"):
        SOLVERS["lcm"].grid(schedule, 4)


@pytest.mark.parametrize("name", ["ddpm", "ddim", "plms", "lcm"])
def test_karras_sigmas_need_a_solver_over_sigmas(name):
    schedule = dataclasses.replace(SCHEDULE, use_karras_sigmas=True)
    with pytest.raises(ValueError, match="dpmpp_2m"):
        SOLVERS[name].grid(schedule, 10)


@pytest.mark.parametrize("steps", [0, 1001])
def test_impossible_step_counts_are_refused(steps):
    with pytest.raises(ValueError, match=r"in \[1, 1000\]"):
        SOLVERS["ddim"].grid(SCHEDULE, steps)


def test_an_offset_beyond_the_last_time_is_refused():
    with pytest.raises(ValueError, match="steps_offset=1"):
        SOLVERS["ddim"].grid(SCHEDULE, 1000)


@functools.partial(jax.jit, static_argnames="name")
def one_row(name, x, state, row, rates, mean, std, i):
    """A row of the solver on the Gaussian N(mean, std²), with x at these rates."""
    signal, noise = rates
    v = signal**2 * std**2 + noise**2
    eps = noise * (x - signal * mean) / v
    own = jax.vmap(jax.random.fold_in, (0, None))(keys(), i)
    return ALL[name].step(x, state, eps, row, own)


def walk_rows(name, grid, x, mean, std):
    """`sample` row by row, so that grids of any length share one compilation."""
    again = np.asarray(getattr(grid, "again", np.zeros(grid.t.shape, bool)))
    state = ALL[name].init(x)
    for i in range(len(grid.t)):
        row = rows_of(grid.replace(start=1.0), i)
        rates = (row.signal, row.noise)
        if again[i]:
            rates = (row.next_signal, row.next_noise)
        x, state = one_row(name, x, state, row, rates, mean, std, i)
    return x


@pytest.mark.parametrize("name", ALL)
def test_a_tail_begins_like_the_solver_itself(name):
    """Where the network knows z0, a solver that begins rightly ends at it."""
    whole = ALL[name].grid(SCHEDULE, 25)
    levels = -np.unique(-np.asarray(whole.noise))
    z0 = 0.3 * start() + 1
    for steps in (1, 2, 6, 25):
        grid = whole.tail(25 - steps)
        assert grid.noise[0] == levels[25 - steps]
        assert steps_of(grid).max() == steps - 1
        x = grid.signal[0] * z0 + grid.noise[0] * start()[::-1]
        end = walk_rows(name, grid, x, z0, 0.0)
        remaining = float(grid.next_noise[-1])  # noise at the schedule's end
        assert np.abs(end - grid.next_signal[-1] * z0).max() < 4 * remaining + 1e-3


@pytest.mark.parametrize("name", ["ddim", "heun", "plms", "dpmpp_2m"])
def test_a_tail_keeps_its_solver_s_order(name):
    def distance(steps):
        grid = SOLVERS[name].grid(SMOOTH, steps).tail(steps // 2)
        grid = rows_of(grid, slice(-1))
        end = walk_rows(name, grid, start(), jnp.float32(MEAN), STD)
        return np.abs(end - flow(start(), grid)).max()

    assert distance(40) / distance(80) > (1.6 if name == "ddim" else 3.0)


def test_evaluations_at_one_noise_level_are_of_one_step():
    of = {name: steps_of(SOLVERS[name].grid(SCHEDULE, 4)).tolist() for name in SOLVERS}
    assert of["heun"] == [0, 1, 1, 2, 2, 3, 3]
    assert of["plms"] == [0, 1, 1, 2, 3]
    assert of["ddim"] == of["dpmpp_2m"] == [0, 1, 2, 3]

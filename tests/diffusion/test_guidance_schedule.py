"""Weights that change over the steps, as numbers."""

import numpy as np
import pytest

from personax.diffusion.guidance_schedule import to_json, weight_values
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS
from personax.diffusion.solvers.grid import steps_of
from personax.sampling.grammar import parse_weight

pytestmark = pytest.mark.quick


def by_step(text, count=5):
    return weight_values(parse_weight(text), np.arange(count))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1>3", [1, 1.5, 2, 2.5, 3]),
        ("2.5[0.2,0.8]", [0, 2.5, 2.5, 2.5, 0]),
        ("2>-2[0.2,0.8]", [0, 2, 0, -2, 0]),
        ("1+2[0,0.4]", [3, 3, 1, 1, 1]),
        ("3-1>0", [2, 2.25, 2.5, 2.75, 3]),
        ("-1[0,0.5]+4[0.5,1]", [-1, -1, 4, 4, 4]),
    ],
)
def test_a_schedule_has_a_weight_for_each_step(text, numbers):
    np.testing.assert_allclose(by_step(text), numbers, rtol=1e-6)


@pytest.mark.parametrize("text", ["3", "-0.5", "+2", "1e-1", "1+2", "2>2", "4[0,1]"])
def test_a_weight_that_never_changes_is_one_number(text):
    assert isinstance(parse_weight(text), float)
    assert by_step(text).shape == ()


@pytest.mark.parametrize("count", [1, 2, 7, 25, 50])
def test_shares_that_meet_have_every_step_once(count):
    total = sum(by_step(f"1[{a},{b}]", count) for a, b in [(0, 0.3), (0.3, 0.6)])
    np.testing.assert_array_equal(total + by_step("1[0.6,1]", count), np.ones(count))


@pytest.mark.parametrize("text", ["1>3", "2.5[0.2,0.8]", "3-1>0[0,0.5]+2[0.5,1]"])
def test_a_written_schedule_is_read_again(text):
    assert to_json(parse_weight(text)) == text


@pytest.mark.parametrize("name", ["ddim", "heun", "plms", "dpmpp_2m"])
def test_what_is_evaluated_at_one_noise_level_has_one_weight(name):
    schedule = ScheduleConfig(timestep_spacing="leading")
    grid = SOLVERS[name].grid(schedule, 6)
    weights = np.asarray(weight_values(parse_weight("1>6"), steps_of(grid)))
    assert weights.shape == grid.t.shape
    # Leading times are spaced alike, and so are the weights of a straight line.
    by_time = 1 + 5 * (grid.t[0] - grid.t) / (grid.t[0] - grid.t[-1])
    np.testing.assert_allclose(weights, by_time, rtol=1e-5)

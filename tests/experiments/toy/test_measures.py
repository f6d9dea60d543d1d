"""Metrics of overfitting on cases with a known answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.toy import measures, peaks
from experiments.toy.network import init_network
from experiments.toy.task import make_task
from tests.experiments.toy.small import small_config

TASK = make_task(small_config(), jax.random.key(0))
RNG = np.random.default_rng(0)


def draws(mixture, number=4000, seed=0):
    return np.asarray(peaks.draw(jax.random.key(seed), mixture, number))


def of_others(change=lambda z: z):
    return measures.other_samples(
        {name: change(draws(TASK.mixtures[name])) for name in TASK.others}, TASK
    )


def test_a_translated_set_is_at_the_distance_of_its_translation():
    one = RNG.normal(size=(60, 2))
    moved = RNG.permutation(one + np.array([0.3, -0.4]))
    assert measures.exact_wasserstein(one, moved) == pytest.approx(0.5)


def test_sets_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="Cannot assign 3 points to 2"):
        measures.exact_wasserstein(np.zeros((3, 2)), np.zeros((2, 2)))


def test_a_change_toward_the_trained_line_is_all_pull():
    """A step of length 0.2 everywhere: pull 0.2, Fisher divergence 0.02."""
    probe = measures.make_probe(TASK, TASK.others, 50, jax.random.key(1))
    to = peaks.rates(probe.t)[0] * TASK.trained.centres - probe.x
    step = 0.2 * to / jnp.linalg.norm(to, axis=1, keepdims=True)
    zero = jnp.zeros(len(to))
    base = measures.Field(jnp.ones_like(step), zero)
    own = measures.Field(base.value + step, zero - 3)
    found = measures.field_change(own, base, probe, TASK.trained)
    expected = {"fisher": 0.02, "pull": 0.2, "convergence": 3}
    assert found == pytest.approx(expected, rel=1e-4)


def test_pull_is_toward_the_nearest_trained_line():
    trained = peaks.peaks([(-5, 0), (5, 0)], (1, 1))
    x, still = jnp.array([[-2.0, 0.0], [2.0, 0.0]]), jnp.zeros(2)
    probe = measures.Probe(x, still, jnp.zeros(2, jnp.int32))
    base = measures.Field(jnp.zeros((2, 2)), still)
    own = measures.Field(jnp.array([[-1.0, 0.0], [1.0, 0.0]]), still)
    assert measures.field_change(own, base, probe, trained)["pull"] == 1


def test_the_fields_divergence_is_that_of_finite_differences():
    params = init_network(
        jax.random.key(2), conditions=4, width=16, layers=1, embedding=4
    )
    probe = measures.make_probe(TASK, TASK.others, 10, jax.random.key(3))
    slopes = []
    for axis in jnp.eye(2):
        ahead, behind = (
            measures.field(params, probe._replace(x=probe.x + h * axis[None])).value
            for h in (0.01, -0.01)
        )
        slopes.append(((ahead - behind) / 0.02) @ axis)
    found = measures.field(params, probe).divergence
    np.testing.assert_allclose(found, sum(slopes), atol=0.01)


def test_true_peaks_are_whole():
    found = of_others()
    assert found["own_share"] == pytest.approx(0.989, abs=0.005)
    assert found["line_share"] < 0.001
    assert found["spread"] == pytest.approx(1, abs=0.03)


def test_peaks_that_moved_are_lost_but_not_shrunk():
    found = of_others(lambda z: z + np.float32([1.2, 0]))
    assert found["own_share"] < 0.1
    assert found["spread"] == pytest.approx(1, abs=0.03)


def test_peaks_that_shrank_are_shrunk_but_not_lost():
    found = of_others(lambda z: z.mean(0) + (z - z.mean(0)) / 2)
    assert found["own_share"] > 0.99
    assert found["spread"] == pytest.approx(0.5, abs=0.02)


def test_samples_in_the_line_are_counted():
    found = of_others(lambda z: draws(TASK.lines))
    assert found["line_share"] == pytest.approx(0.989, abs=0.005)


def test_a_concept_that_repeats_its_examples_is_detected():
    line = draws(TASK.lines, 80, 1)
    of_class = draws(TASK.mixtures[TASK.class_word], 80, 2)
    repeats = np.repeat(np.asarray(TASK.examples), 10, axis=0)
    fresh, repeated = (
        measures.concept_samples(each, of_class, line, TASK)
        for each in (draws(TASK.lines, 80, 3), repeats)
    )
    assert repeated["nearest_shot"] == 0
    assert fresh["nearest_shot"] > 0.03
    assert repeated["w2_wanted"] > fresh["w2_wanted"]
    assert fresh["w2_class"] == pytest.approx(1, abs=0.1)
    assert fresh["wanted_share"] > 0.9


def test_lines_without_samples_are_not_covered():
    four = TASK._replace(lines=peaks.peaks([(i, 0) for i in range(4)], (0.1, 0.1)))
    half = peaks.peaks([(0, 0), (2, 0)], (0.02, 0.02))
    z = draws(half, 80)
    found = measures.concept_samples(z, z, z, four)
    assert (found["covered"], found["wanted_share"]) == (0.5, 1)

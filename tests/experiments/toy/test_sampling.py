"""The sampler along exact fields: the closed form of one peak, a mixture's moments."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.toy import peaks
from experiments.toy.evaluation import sample

KEY = jax.random.key(0)


def error(steps):
    """Of one peak, whose flow takes noise n to centre + scale n."""
    one = peaks.peaks([(1.5, -1.0)], (0.4, 0.05))
    found = sample(lambda x, t: peaks.velocity(one, x, t), KEY, 64, steps)
    expected = one.centres + one.scales * jax.random.normal(KEY, (64, 2))
    return float(jnp.abs(found - expected).max())


def test_one_peak_has_a_closed_form_and_the_order_is_two():
    coarse, fine = error(32), error(64)
    assert fine < 2e-3
    assert 3 < coarse / fine < 5


def test_a_mixture_is_recovered_within_its_standard_error():
    mixture = peaks.peaks([(-2, 0), (1, 1), (1, -2)], (0.3, 0.1))
    number = 6000
    z = sample(lambda x, t: peaks.velocity(mixture, x, t), KEY, number, 64)
    lies_in = np.asarray(peaks.inside(mixture, z, radius=6.0))
    assert lies_in.any(1).all()
    share_error = np.sqrt(2 / 9 / number)
    np.testing.assert_allclose(lies_in.mean(0), 1 / 3, atol=4 * share_error)
    for centre, own in zip(mixture.centres, lies_in.T, strict=True):
        heap = (np.asarray(z)[own] - np.asarray(centre)) / [0.3, 0.1]
        few = np.sqrt(1 / len(heap))
        np.testing.assert_allclose(heap.mean(0), 0, atol=4 * few)
        expected = [[1, 0], [0, 1]]
        np.testing.assert_allclose(np.cov(heap.T), expected, atol=4 * np.sqrt(2) * few)

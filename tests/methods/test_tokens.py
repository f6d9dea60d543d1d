"""Rows of new tokens: their initial values and their place in the table."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.core.tree import flat, nest
from personax.diffusion.denoiser import Denoiser
from personax.methods.parts.base import Concept
from personax.methods.parts.tokens import TABLE, tokens

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def params():
    """A table of 300 rows whose columns have means and deviations of their own."""
    rng = np.random.default_rng(0)
    spread = np.linspace(0.5, 2, 6)[None]
    rows = np.arange(6)[None] + spread * rng.standard_normal((300, 6))
    return nest({TABLE: jnp.asarray(rows, jnp.float32)})


def concept(*initial):
    ids = tuple(range(300, 300 + len(initial)))
    return Concept("<v1>", "dog", ids, initial, "<v1> dog")


def rows_of(params, *concepts, seed=0):
    return tokens().init(jax.random.key(seed), params, concepts)["embedding"]


def test_a_row_starts_as_its_initial_ones(params):
    table = flat(params)[TABLE]
    rows = rows_of(params, concept(7, 9), concept(3))
    np.testing.assert_array_equal(rows, table[np.array([7, 9, 3])])


def test_a_row_without_one_is_drawn_from_the_vocabulary_s_statistics(params):
    table = np.asarray(flat(params)[TABLE])
    drawn = np.asarray(rows_of(params, concept(*[None] * 2000)))
    error = table.std(0) / np.sqrt(2000)
    assert (np.abs(drawn.mean(0) - table.mean(0)) < 5 * error).all()
    np.testing.assert_allclose(drawn.std(0), table.std(0), rtol=0.1)
    assert len(np.unique(drawn[:, 0])) == 2000
    again = rows_of(params, concept(None), seed=1)
    assert np.abs(drawn[0] - np.asarray(again)[0]).max() > 0.1


def test_a_drawn_row_does_not_change_the_others(params):
    rows = rows_of(params, concept(None, 9))
    np.testing.assert_array_equal(rows[1], flat(params)[TABLE][9])


def test_rows_follow_the_table_in_the_order_of_the_concepts(params):
    part = tokens()
    theta = part.init(jax.random.key(0), params, [concept(7), concept(3)])
    bound = flat(part.bind(Denoiser(params), theta).params)[TABLE]
    table = flat(params)[TABLE]
    np.testing.assert_array_equal(bound[:300], table)
    np.testing.assert_array_equal(bound[300:], table[np.array([7, 3])])


def test_a_bfloat16_table_stays_one_and_theta_is_float32(params):
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    part = tokens()
    theta = part.init(jax.random.key(0), half, [concept(7, None)])
    assert theta["embedding"].dtype == jnp.float32
    bound = flat(part.bind(Denoiser(half), theta).params)[TABLE]
    assert bound.dtype == jnp.bfloat16


def test_without_a_placeholder_nothing_trains_or_changes(params):
    part = tokens()
    bare = Concept("", "moongate", (), (), "moongate")
    theta = part.init(jax.random.key(0), params, [bare])
    assert theta == {}
    denoiser = Denoiser(params)
    assert part.bind(denoiser, theta) is denoiser

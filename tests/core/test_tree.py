"""Paths: select, overwrite, and what they say when a name is wrong."""

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personax.core import tree
from personax.networks.unet import UNetConfig, init_unet

names = st.text("abc", min_size=1, max_size=3)
trees = st.recursive(
    st.integers(0, 9).map(lambda n: np.full((2,), n)),
    lambda inner: st.dictionaries(names, inner, min_size=1, max_size=3),
    max_leaves=8,
).filter(lambda t: isinstance(t, dict))


@given(trees)
def test_nest_undoes_flat(t):
    assert (
        tree.nest(tree.flat(t)) == t
        or tree.flat(tree.nest(tree.flat(t))).keys() == tree.flat(t).keys()
    )


@given(trees)
def test_overwriting_with_what_was_selected_changes_nothing(t):
    same = tree.overwrite(t, tree.select(t, ".*"))
    assert tree.flat(same).keys() == tree.flat(t).keys()
    for path, leaf in tree.flat(same).items():
        np.testing.assert_array_equal(leaf, tree.flat(t)[path])


def test_overwrite_leaves_the_tree_alone():
    t = {"a": {"b": np.zeros(2)}}
    tree.overwrite(t, {"a/b": np.ones(2)})
    assert (t["a"]["b"] == 0).all()


@pytest.mark.parametrize(
    ("preset", "leaves", "numbers"),
    [
        ("kv", 32, 19_169_280),
        ("cross_attention", 80, 43_962_560),
        ("attention", 160, 43_962_560 + 49_574_080),
        ("unet", 686, 859_520_964),
        ("unet_except_cross_attention", 686 - 80, 859_520_964 - 43_962_560),
    ],
)
def test_presets_count_what_the_papers_count(preset, leaves, numbers):
    shapes = jax.eval_shape(lambda: init_unet(jax.random.key(0), UNetConfig()))
    found = tree.select({"unet": shapes}, preset)
    assert (len(found), tree.count(found)) == (leaves, numbers)


def test_a_dead_pattern_names_the_nearest_paths():
    t = {"unet": {"attn2": {"to_k": {"kernel": np.zeros(1)}}}}
    with pytest.raises(ValueError, match="unet/attn2/to_k/kernel"):
        tree.select(t, "unet/attn2/tok/kernel")


def test_a_pattern_must_match_the_whole_path():
    t = {"unet": {"to_k": np.zeros(1), "to_key": np.zeros(1)}}
    assert set(tree.select(t, "unet/to_k")) == {"unet/to_k"}


@pytest.mark.parametrize(
    ("path", "shape", "error"), [("a/c", 2, KeyError), ("a/b", 3, ValueError)]
)
def test_overwrite_refuses_unknown_paths_and_other_shapes(path, shape, error):
    with pytest.raises(error, match="a/b"):
        tree.overwrite({"a": {"b": np.zeros(2)}}, {path: np.zeros(shape)})


def test_a_broken_regular_expression_is_named():
    with pytest.raises(ValueError, match="not a valid regular expression"):
        tree.select({"a": np.zeros(1)}, "a(")

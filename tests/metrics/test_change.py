"""Rates of change of weights that were moved by a known share."""

import jax.numpy as jnp
import numpy as np
import pytest

from personax.core.tree import flat, nest
from personax.metrics.change import Change, by_group, rate_of_change

RNG = np.random.default_rng(0)
BLOCK = "unet/down_blocks/0/attentions/0/transformer_blocks/0"
FACTORS = {
    f"{BLOCK}/attn1/to_q/kernel": 1.5,
    f"{BLOCK}/attn2/to_k/kernel": 0.75,
    f"{BLOCK}/attn2/to_out/0/kernel": 2,
    f"{BLOCK}/attn2/to_out/0/bias": 1,
    f"{BLOCK}/norm2/scale": -1,
    "unet/conv_in/kernel": 1.01,
}
WEIGHTS = {path: RNG.normal(size=(4, 3)) for path in FACTORS}
# A scaled layer's rate is |factor - 1|.
SCALED = {path: FACTORS[path] * x for path, x in WEIGHTS.items()}


def test_a_layer_is_its_tensors_together():
    rates = rate_of_change(nest(WEIGHTS), nest(SCALED))
    layer = f"{BLOCK}/attn2/to_out/0"
    kernel, bias = (WEIGHTS[f"{layer}/{name}"] for name in ("kernel", "bias"))
    expected = np.linalg.norm(kernel) / np.linalg.norm(np.concatenate([kernel, bias]))
    assert rates == pytest.approx(
        {
            f"{BLOCK}/attn1/to_q": 0.5,
            f"{BLOCK}/attn2/to_k": 0.25,
            layer: expected,
            f"{BLOCK}/norm2": 2,
            "unet/conv_in": 0.01,
        }
    )


def test_it_is_the_norm_of_the_difference_over_the_norm():
    before, after = RNG.normal(size=(2, 4, 3))
    expected = np.linalg.norm(after - before) / np.linalg.norm(before)
    rates = rate_of_change({"x": before}, {"x": after})
    assert rates == {"x": pytest.approx(expected)}
    assert rate_of_change({"x": before}, {"x": before}) == {"x": 0}


def test_groups_are_the_attentions_and_the_rest():
    rates = rate_of_change(nest(WEIGHTS), nest(SCALED))
    out = rates[f"{BLOCK}/attn2/to_out/0"]
    assert by_group(rates) == {
        "cross-attention": (pytest.approx((0.25 + out) / 2), 2),
        "self-attention": (pytest.approx(0.5), 1),
        "rest": (pytest.approx((2 + 0.01) / 2), 2),
    }


def test_every_layer_of_a_unet_is_in_one_group(tiny_params):
    rates = rate_of_change(tiny_params["unet"], tiny_params["unet"])
    found = by_group(rates)
    layers = {path.rpartition("/")[0] for path in flat(tiny_params["unet"])}
    assert rates.keys() == layers
    for name, part in (("cross-attention", "/attn2/"), ("self-attention", "/attn1/")):
        assert found[name].count == sum(part in path for path in layers) > 0
    known = [path for path, rate in rates.items() if not np.isnan(rate)]
    assert sum(each.count for each in found.values()) == len(known)


def test_what_was_all_zero_has_no_rate():
    before = {"attn2": {"zero": np.zeros(3), "one": {"bias": np.ones(3)}}}
    after = {"attn2": {"zero": np.ones(3), "one": {"bias": 2 * np.ones(3)}}}
    rates = rate_of_change(before, after)
    assert np.isnan(rates["attn2"])
    found = by_group(rates)
    assert found["cross-attention"] == Change(1.0, 1)
    assert np.isnan(found["rest"].mean)


def test_half_precision_is_compared_in_float64():
    before = jnp.full(4096, 1.0, jnp.bfloat16)
    rates = rate_of_change(
        {"x": before}, {"x": jnp.full(4096, 1.0078125, jnp.bfloat16)}
    )
    assert rates == {"x": 0.0078125}


def test_values_that_are_not_finite_are_named():
    one = {"conv": {"kernel": np.ones(3), "bias": np.ones(2)}}
    nan = {"conv": {**one["conv"], "bias": np.array([1, np.nan])}}
    for pair in ((one, nan), (nan, one)):
        with pytest.raises(ValueError, match="conv/bias has values that are not"):
            rate_of_change(*pair)

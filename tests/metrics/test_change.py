"""Rates of change of weights that were moved by a known share."""

import jax.numpy as jnp
import numpy as np
import pytest

from personax.core.tree import flat, nest
from personax.metrics.change import Change, by_group, rate_of_change

RNG = np.random.default_rng(0)
BLOCK = "unet/down_blocks/0/attentions/0/transformer_blocks/0"
KERNELS = (
    f"{BLOCK}/attn1/to_q/kernel",
    f"{BLOCK}/attn2/to_k/kernel",
    f"{BLOCK}/attn2/to_out/0/kernel",
    f"{BLOCK}/attn2/to_out/0/bias",
    f"{BLOCK}/norm2/scale",
    "unet/conv_in/kernel",
)
WEIGHTS = {path: RNG.normal(size=(4, 3)) for path in KERNELS}


def scaled(factors):
    """The weights times a factor each: their rate is |factor - 1|."""
    return nest(
        {
            path: factor * x
            for (path, x), factor in zip(WEIGHTS.items(), factors, strict=True)
        }
    )


def test_a_scaled_tensor_changed_by_its_factor():
    rates = rate_of_change(nest(WEIGHTS), scaled((1.5, 0.75, 2, 1, -1, 1.01)))
    assert rates == pytest.approx(
        dict(zip(KERNELS, (0.5, 0.25, 1, 0, 2, 0.01), strict=True))
    )


def test_it_is_the_norm_of_the_difference_over_the_norm():
    after = RNG.normal(size=(4, 3))
    before = WEIGHTS["unet/conv_in/kernel"]
    expected = np.linalg.norm(after - before) / np.linalg.norm(before)
    rates = rate_of_change({"x": before}, {"x": after})
    assert rates == {"x": pytest.approx(expected)}
    assert rate_of_change({"x": before}, {"x": before}) == {"x": 0}


def test_a_layer_is_its_tensors_together():
    after = scaled((1.5, 0.75, 2, 1, -1, 1.01))
    rates = rate_of_change(nest(WEIGHTS), after, per="layer")
    layer = f"{BLOCK}/attn2/to_out/0"
    kernel, bias = (WEIGHTS[f"{layer}/{name}"] for name in ("kernel", "bias"))
    both = np.concatenate([kernel, bias])
    expected = np.linalg.norm(kernel) / np.linalg.norm(both)
    assert rates[layer] == pytest.approx(expected)
    assert len(rates) == 5


def test_groups_are_the_attentions_and_the_rest():
    after = scaled((1.5, 0.75, 2, 1, -1, 1.01))
    found = by_group(rate_of_change(nest(WEIGHTS), after))
    assert found == {
        "cross-attention": (pytest.approx((0.25 + 1 + 0) / 3), 3, 0),
        "self-attention": (pytest.approx(0.5), 1, 0),
        "rest": (pytest.approx((2 + 0.01) / 2), 2, 0),
    }
    layers = by_group(rate_of_change(nest(WEIGHTS), after, per="layer"))
    assert layers["cross-attention"].count == 2


def test_every_layer_of_a_unet_is_in_one_group(tiny_params):
    rates = rate_of_change(tiny_params["unet"], tiny_params["unet"])
    found = by_group(rates)
    paths = flat(tiny_params["unet"])
    for name, part in (("cross-attention", "/attn2/"), ("self-attention", "/attn1/")):
        assert found[name].count == sum(part in path for path in paths) > 0
    assert sum(each.count + each.zeros for each in found.values()) == len(paths)


def test_what_was_all_zero_has_no_rate_and_is_counted():
    before = {"attn2": {"zero": np.zeros(3), "bias": np.ones(3)}}
    after = {"attn2": {"zero": np.ones(3), "bias": 2 * np.ones(3)}}
    rates = rate_of_change(before, after)
    assert np.isnan(rates["attn2/zero"])
    groups = {"cross-attention": "attn2/.*"}
    assert by_group(rates, groups)["cross-attention"] == Change(1.0, 1, 1)
    together = rate_of_change(before, after, per="layer")
    assert together == {"attn2": pytest.approx(np.sqrt(2))}
    only = by_group({"attn2/zero": float("nan")}, groups)["cross-attention"]
    assert np.isnan(only.mean)


def test_half_precision_is_compared_in_float64():
    before = jnp.full(4096, 1.0, jnp.bfloat16)
    rates = rate_of_change(
        {"x": before}, {"x": jnp.full(4096, 1.0078125, jnp.bfloat16)}
    )
    assert rates == {"x": 0.0078125}


def test_what_cannot_be_compared_is_named():
    one = {"conv": {"kernel": np.ones(3), "bias": np.ones(2)}}
    with pytest.raises(ValueError, match=r"conv/bias exists only before .*conv/kernel"):
        rate_of_change(one, {"conv": {"kernel": np.ones(3)}})
    with pytest.raises(ValueError, match="conv/scale exists only after"):
        rate_of_change(one, {"conv": {**one["conv"], "scale": np.ones(1)}})
    with pytest.raises(
        ValueError, match=r"conv/bias has shape \(2,\) before and \(3,\)"
    ):
        rate_of_change(one, {"conv": {**one["conv"], "bias": np.ones(3)}})
    nan = {"conv": {**one["conv"], "bias": np.array([1, np.nan])}}
    for pair in ((one, nan), (nan, one)):
        with pytest.raises(ValueError, match="conv/bias has values that are not"):
            rate_of_change(*pair)
    with pytest.raises(ValueError, match="requires parameters"):
        rate_of_change({}, {})
    with pytest.raises(ValueError, match="per='block'; expected tensor or layer"):
        rate_of_change(one, one, per="block")
    with pytest.raises(ValueError, match=r"group cross-attention.*conv/kernel"):
        by_group(rate_of_change(one, one))

"""Quantization: the error is bounded, and invalid leaves are refused."""

import numpy as np
import pytest

from personax.concepts.quantize import quantize, relative_error, restore

pytestmark = pytest.mark.quick

RNG = np.random.default_rng(0)
LEAVES = {
    "residual/a/v": RNG.standard_normal((2, 1, 48)).astype(np.float32),
    "residual/b/v": np.zeros((2, 1, 8), np.float32),
    "tokens/embedding": 1e-3 * RNG.standard_normal((3, 16)).astype(np.float32),
}


def test_the_error_of_int8_is_at_most_half_a_step():
    restored = restore(quantize(LEAVES, "int8"))
    for path, leaf in LEAVES.items():
        step = np.abs(leaf).max(-1, keepdims=True) / 127
        assert restored[path].dtype == np.float32
        assert (np.abs(restored[path] - leaf) <= 0.5 * step + 1e-9).all()
    assert 0 < relative_error(LEAVES, restored) < 0.01


def test_float16_keeps_eleven_bits():
    restored = restore(quantize(LEAVES, "float16"))
    for path, leaf in LEAVES.items():
        # Relative above the smallest normal number, 6e-5; absolute below.
        np.testing.assert_allclose(restored[path], leaf, rtol=2**-11, atol=6e-8)


def test_the_size_in_bytes():
    def size(leaves):
        return sum(leaf.nbytes for leaf in leaves.values())

    assert size(quantize(LEAVES, "float16")) == size(LEAVES) // 2
    assert size(quantize(LEAVES, "int8")) == size(LEAVES) // 4 + 4 * (2 + 2 + 3)


def test_full_precision_is_unchanged():
    assert restore(LEAVES) == LEAVES


def test_missing_or_mismatched_scales_are_refused():
    restored = quantize(LEAVES, "int8")
    scale = restored.pop("residual/a/v.scale")
    with pytest.raises(ValueError, match="residual/a/v is int8 without matching"):
        restore(restored)
    with pytest.raises(ValueError, match="residual/a/v is int8 without matching"):
        restore({**restored, "residual/a/v.scale": scale[:1]})


def test_too_large_for_float16_is_refused():
    with pytest.raises(ValueError, match="x has values too large"):
        quantize({"x": np.array([1e5])}, "float16")
    with pytest.raises(ValueError, match="float16 or int8"):
        quantize(LEAVES, "int4")

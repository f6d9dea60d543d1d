"""Low-rank compression: which components it keeps, and the restored kernels."""

import numpy as np
import pytest

from personax.concepts.low_rank import expand, factored, low_rank
from personax.core.tree import nest

pytestmark = pytest.mark.quick
PATHS = ("unet/a/attn2/to_k/kernel", "unet/a/attn2/to_v/kernel")


def matrix(values, rows=7, columns=5, seed=0):
    """A (rows, columns) matrix with these singular values."""
    rng = np.random.default_rng(seed)
    u = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    v = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    return (u * np.array(values)[None]) @ v


@pytest.fixture(scope="module")
def deltas():
    return {
        PATHS[0]: matrix([5, 3, 1, 0.6, 0.4]),
        PATHS[1]: matrix([9, 0.4, 0.3, 0.2, 0.1], seed=1),
    }


def test_the_whole_share_restores_the_delta(deltas):
    done = low_rank(deltas, share=1.0)
    for path, (u, v) in done.factors.items():
        assert u.dtype == v.dtype == np.float32
        np.testing.assert_allclose(u @ v, deltas[path], atol=1e-6)
    assert done.error == 0
    assert done.kept == 1


@pytest.mark.parametrize(
    ("share", "keep_crossing", "ranks"),
    [
        # Cumulative shares .5 .8 .9 .96 1 and .9 .94 .97 .99 1.
        (0.6, True, [2, 1]),
        (0.6, False, [1, 0]),
        (0.85, True, [3, 1]),
        (0.95, False, [3, 2]),
        (1.0, True, [5, 5]),
        (1.0, False, [5, 5]),
    ],
)
def test_the_rank_is_where_the_values_sum_crosses_the_share(
    deltas, share, keep_crossing, ranks
):
    done = low_rank(deltas, share=share, keep_crossing=keep_crossing)
    assert list(done.ranks.values()) == ranks


def test_the_crossing_component_keeps_every_rank_above_zero(deltas):
    untouched = {**deltas, "unet/b/kernel": np.zeros((4, 3))}
    for share in (1e-6, 0.3, 1.0):
        assert min(low_rank(untouched, share=share).ranks.values()) >= 1


def test_error_and_share_describe_the_residual(deltas):
    done = low_rank(deltas, share=0.6)
    left = [deltas[path] - u @ v for path, (u, v) in done.factors.items()]
    whole = np.sqrt(sum(np.square(delta).sum() for delta in deltas.values()))
    missing = np.sqrt(sum(np.square(delta).sum() for delta in left))
    assert done.error == pytest.approx(missing / whole, rel=1e-5)
    assert done.kept == pytest.approx((8 + 9) / 20)


def test_the_error_falls_as_the_share_grows(deltas):
    errors = [low_rank(deltas, share=x).error for x in (0.1, 0.6, 0.85, 0.95, 1.0)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 5 * errors[-2] > 0


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01])
def test_an_impossible_share_is_refused(deltas, share):
    with pytest.raises(ValueError, match="must be in"):
        low_rank(deltas, share=share)


def on_disk(done):
    return {f"weights/{path}": leaf for path, leaf in factored(done.factors).items()}


def test_expanded_leaves_are_the_base_plus_the_factors(deltas):
    rng = np.random.default_rng(3)
    base = {path: rng.standard_normal((7, 5)).astype(np.float32) for path in PATHS}
    done = low_rank(deltas, share=0.6)
    bias = np.ones(3, np.float32)
    leaves = {**on_disk(done), "weights/unet/a/bias": bias}
    assert "weights/unet/a/attn2/to_k/svd_u" in leaves
    full = expand(leaves, nest(base))
    assert full.keys() == {
        *(f"weights/{path}" for path in PATHS),
        "weights/unet/a/bias",
    }
    for path, (u, v) in done.factors.items():
        assert full[f"weights/{path}"].dtype == np.float32
        np.testing.assert_allclose(
            full[f"weights/{path}"], base[path] + u @ v, atol=1e-6
        )
    assert full["weights/unet/a/bias"] is bias


def test_factors_that_do_not_fit_are_refused(deltas):
    base = {path: np.zeros((7, 5), np.float32) for path in PATHS}
    leaves = on_disk(low_rank(deltas))
    half = {path: leaf for path, leaf in leaves.items() if not path.endswith("k/svd_v")}
    with pytest.raises(ValueError, match="to_k/svd_u and svd_v do not fit"):
        expand(half, nest(base))
    other = {**base, PATHS[1]: np.zeros((7, 6), np.float32)}
    with pytest.raises(ValueError, match="to_v/svd_u and svd_v do not fit"):
        expand(leaves, nest(other))
    with pytest.raises(ValueError, match="do not fit"):
        expand(leaves, {})

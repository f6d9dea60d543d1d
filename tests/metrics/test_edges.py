"""Edge agreement of maps that can be counted by hand."""

import sys

import numpy as np
import pytest

from personax.metrics.edges import edge_f1, edge_iou, edge_l1, edge_ssim


def lines(*columns: int) -> np.ndarray:
    edges = np.zeros((8, 8), np.uint8)
    edges[:, list(columns)] = 255
    return edges


def test_iou_counts_common_edges_over_all():
    assert edge_iou(lines(1, 2), lines(2, 3)) == pytest.approx(1 / 3)
    assert edge_iou(lines(1), lines(1)) == 1
    assert edge_iou(lines(1), lines(2)) == 0


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    found, wanted = lines(1, 2), lines(2, 3, 4)
    precision, recall = 1 / 2, 1 / 3
    expected = 2 * precision * recall / (precision + recall)
    assert edge_f1(found, wanted) == pytest.approx(expected)


def test_maps_without_edges_agree_and_any_edge_counts():
    assert edge_iou(lines(), lines()) == 1
    assert edge_iou(lines(), lines(1)) == 0
    assert edge_iou(lines(1) // 255, lines(1)) == 1


def test_maps_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="8x8 pixels, those wanted 4x8"):
        edge_iou(lines(1), lines(1)[:, :4])


def stripe(side: int, *columns: int) -> np.ndarray:
    edges = np.zeros((side, side), np.uint8)
    edges[:, list(columns)] = 255
    return edges


def test_l1_is_the_share_of_pixels_that_differ():
    assert edge_l1(lines(1, 2), lines(2, 3)) == pytest.approx(2 / 8)
    assert edge_l1(lines(1), lines(1) // 255) == 0
    assert edge_l1(lines(), lines(*range(8))) == 1


def test_ssim_of_flat_maps_has_a_closed_form():
    """Wang et al. 2004, eq. 6: means alone count, C1 / (1 + C1) with C1 = 0.01^2."""
    nothing, everything = stripe(16), stripe(16, *range(16))
    assert edge_ssim(nothing, everything) == pytest.approx(1e-4 / (1 + 1e-4))
    assert edge_ssim(nothing, nothing) == pytest.approx(1)


def test_ssim_is_that_of_maps_of_0_and_1():
    one, other = stripe(24, 4, 12), stripe(24, 6, 12)
    assert edge_ssim(one, one // 255) == pytest.approx(1)
    assert edge_ssim(one, other) == edge_ssim(other, one)
    assert 0 < edge_ssim(one, other) < edge_ssim(one, stripe(24, 5, 12)) < 0.9


def test_ssim_is_scikit_images_with_the_papers_window():
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 2, (32, 32)).astype(np.uint8) for _ in range(2))

    def local(x):
        return gaussian_filter(x.astype(float), 1.5, truncate=5 / 1.5)[5:-5, 5:-5]

    a, b = local(one), local(other)
    va, vb, vab = local(one) - a * a, local(other) - b * b, local(one * other) - a * b
    expected = (2 * a * b + 1e-4) * (2 * vab + 9e-4)
    expected /= (a * a + b * b + 1e-4) * (va + vb + 9e-4)
    assert edge_ssim(one, other) == pytest.approx(expected.mean(), abs=1e-9)


@pytest.mark.parametrize("metric", [edge_iou, edge_f1, edge_l1, edge_ssim])
def test_every_measure_refuses_two_sizes_and_nothing(metric):
    with pytest.raises(ValueError, match="16x16 pixels, those wanted 8x16"):
        metric(stripe(16), stripe(16)[:, :8])
    with pytest.raises(ValueError, match="have no pixel"):
        metric(stripe(16)[:0], stripe(16)[:0])


def test_ssim_says_what_it_needs(monkeypatch):
    with pytest.raises(ValueError, match="at least 11x11 pixels, not 8x8"):
        edge_ssim(lines(1), lines(2))
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(ValueError, match=r"pip install 'personax\[evaluate\]'"):
        edge_ssim(stripe(16), stripe(16))

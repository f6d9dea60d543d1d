"""Edge agreement of maps that can be counted by hand."""

import numpy as np
import pytest

from personax.metrics.edges import edge_f1, edge_iou


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

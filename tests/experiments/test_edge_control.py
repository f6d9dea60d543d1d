"""Edge agreement of maps that can be counted by hand."""

import numpy as np
import pytest

from benchmarks.edge_control import edge_iou


def lines(*columns: int) -> np.ndarray:
    edges = np.zeros((8, 8), np.uint8)
    edges[:, list(columns)] = 255
    return edges


def test_iou_counts_common_edges_over_all():
    assert edge_iou(lines(1, 2), lines(2, 3)) == pytest.approx(1 / 3)
    assert edge_iou(lines(1), lines(1)) == 1
    assert edge_iou(lines(1), lines(2)) == 0


def test_maps_without_edges_agree_and_any_edge_counts():
    assert edge_iou(lines(), lines()) == 1
    assert edge_iou(lines(), lines(1)) == 0
    assert edge_iou(lines(1) // 255, lines(1)) == 1


def test_two_sizes_and_empty_maps_are_refused():
    with pytest.raises(ValueError, match="8x8 and 4x8 pixels"):
        edge_iou(lines(1), lines(1)[:, :4])
    with pytest.raises(ValueError, match="empty"):
        edge_iou(lines(1)[:0], lines(1)[:0])

"""Canny edges."""

import sys

import numpy as np
import pytest

from personax.data.edges import canny


def square(value):
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[8:24, 8:24] = value
    return pixels


def test_the_edges_of_a_square_are_its_outline():
    edges = canny(square((255, 0, 0)))
    assert edges.shape == (32, 32)
    assert set(np.unique(edges)) == {0, 255}
    rows, columns = np.nonzero(edges)
    assert rows.min() in (7, 8)
    assert rows.max() in (23, 24)
    assert columns.min() in (7, 8)
    assert columns.max() in (23, 24)
    assert not edges[11:21, 11:21].any()


def test_the_thresholds_say_how_steep_an_edge_is():
    faint = square((30, 30, 30))  # a gradient of 120, and 180 at the corners
    assert not canny(faint).any()
    assert canny(faint, 50, 100).any()
    assert not canny(faint, 185, 190).any()


def test_without_opencv_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ValueError, match=r"pip install opencv-python-headless"):
        canny(square(255))

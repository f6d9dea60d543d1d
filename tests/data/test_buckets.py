"""Buckets have about as many pixels as the size, and pictures the nearest aspect."""

import numpy as np
import pytest

from personax.data.buckets import bucket_of, bucket_sizes


def test_the_buckets_of_512_by_64():
    found = bucket_sizes((512, 512), 64)
    assert found == (
        (320, 768),
        (384, 640),
        (448, 576),
        (512, 512),
        (576, 448),
        (640, 384),
        (768, 320),
    )


@pytest.mark.parametrize("size", [(32, 32), (512, 512), (512, 768)])
@pytest.mark.parametrize("multiple", [4, 8, 32])
def test_every_bucket_fits_the_budget_and_could_not_be_longer(size, multiple):
    budget = size[0] * size[1]
    found = bucket_sizes(size, multiple)
    for height, width in found:
        assert height % multiple == width % multiple == 0
        assert height * width <= budget
        assert max(height, width) <= 2.5 * min(height, width)
        assert (width, height) in found
        longer = (height + multiple) * width, height * (width + multiple)
        assert min(longer) > budget


def test_a_budget_below_one_bucket_is_refused():
    with pytest.raises(ValueError, match="No bucket of 32x32 pixels"):
        bucket_sizes((32, 32), 64)


def test_pictures_go_where_least_is_cut_off():
    buckets = bucket_sizes((512, 512), 64)
    sizes = np.array([[100, 100], [90, 100], [1000, 3000], [400, 300], [768, 320]])
    chosen = [buckets[i] for i in bucket_of(sizes, buckets)]
    assert chosen == [(512, 512), (512, 512), (320, 768), (576, 448), (768, 320)]

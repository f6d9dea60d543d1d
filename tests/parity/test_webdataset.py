"""Tars that webdataset writes are read as webdataset reads them, exactly."""

import gc
import warnings

import numpy as np
import pytest

from personax.data.tars import open_tars

wds = pytest.importorskip("webdataset")


def test_samples_are_webdataset_s(tmp_path):
    rng = np.random.default_rng(0)
    pattern = str(tmp_path / "set-%03d.tar")
    with wds.ShardWriter(pattern, maxcount=3, verbose=0) as writer:
        for i in range(8):
            pixels = rng.integers(0, 256, (20, 24 + i, 3), np.uint8)
            sample = {"__key__": f"part/{i:04d}", "png": pixels, "txt": f"a {i}é"}
            writer.write({**sample, "json": {"caption": "no"}, "cls": i})
    url = str(tmp_path / "set-{000..002}.tar")
    with warnings.catch_warnings():
        # webdataset leaves the closing of its files to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        theirs = wds.WebDataset(url, shardshuffle=False).decode("rgb8")
        expected = list(theirs.to_tuple("png", "txt"))
        del theirs
        gc.collect()
    ours = open_tars(url)
    assert len(ours) == len(expected) == 8
    for i, (pixels, caption) in enumerate(expected):
        found = ours.picture(i)
        np.testing.assert_array_equal(found.pixels, pixels)
        assert found.caption == caption

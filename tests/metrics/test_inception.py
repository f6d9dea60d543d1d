"""FID's Inception: resizing, batches, precision and invalid input."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.metrics import inception as metric
from personax.networks.inception import inception, init_inception


def checks(side):
    pixels = 255 * (np.indices((side, side)).sum(0) % 2)
    return np.repeat(pixels[..., None], 3, axis=-1).astype(np.uint8)


def test_resizing_averages_and_keeps_the_networks_size():
    inside = metric.resize(checks(598))[2:-2, 2:-2]
    np.testing.assert_allclose(inside, 127.5, rtol=0, atol=1e-3)
    pixels = checks(299) // 3
    resized = metric.resize(pixels)
    assert resized.dtype == np.float32
    np.testing.assert_array_equal(resized, pixels)


def test_batches_have_one_size_and_features_keep_the_order(monkeypatch):
    batches = []

    def means(params, images):
        batches.append(images.shape)
        return jnp.tile(images.mean((1, 2)), (1, 683))[:, :2048]

    monkeypatch.setattr(metric, "_features", means)
    pixels = [np.full((8, 9, 3), i + 1, np.uint8) for i in range(70)]
    features = metric.of_images({}, pixels)
    assert batches == [(24, 299, 299, 3)] * 3
    np.testing.assert_allclose(features[:, 0], np.arange(1, 71), rtol=1e-5)


def test_no_product_is_left_to_a_devices_default_precision():
    params = jax.eval_shape(init_inception, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    program = metric._features.lower(params, images).as_text()
    products = [
        line
        for line in program.splitlines()
        if "stablehlo.convolution" in line or "stablehlo.dot_general" in line
    ]
    assert len(products) == 94
    assert all("HIGHEST" in line for line in products)


def test_no_pictures_and_small_pictures_are_refused():
    with pytest.raises(ValueError, match="74 x 80, Inception takes 75 x 75 or more"):
        inception({}, jnp.zeros((1, 74, 80, 3)))

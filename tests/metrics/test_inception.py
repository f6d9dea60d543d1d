"""What FID's Inception is shown, by closed forms; batches, precision and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.metrics import inception as metric
from personax.networks.inception import inception, init_inception


def ramps(rows, columns):
    """Red grows by 5 a row, green by 3 a column, blue stays."""
    y, x = np.mgrid[:rows, :columns]
    return np.stack([5 * y, 3 * x, np.full_like(x, 77)], axis=-1).astype(np.uint8)


def checks(side):
    pixels = 255 * (np.indices((side, side)).sum(0) % 2)
    return np.repeat(pixels[..., None], 3, axis=-1).astype(np.uint8)


def test_tf1_begins_at_the_corner_and_repeats_the_last_row():
    found = metric.resize_tf1(ramps(40, 70))
    rows = np.minimum(np.arange(299) * 40 / 299, 39)
    columns = np.minimum(np.arange(299) * 70 / 299, 69)
    expected = np.empty((299, 299, 3))
    expected[..., 0], expected[..., 1] = 5 * rows[:, None], 3 * columns
    expected[..., 2] = 77
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_of_twice_the_size_tf1_takes_every_other_pixel_and_clean_the_mean():
    pixels = checks(598)
    np.testing.assert_array_equal(metric.resize_tf1(pixels), pixels[::2, ::2])
    inside = metric.resize_clean(pixels)[2:-2, 2:-2]
    np.testing.assert_allclose(inside, 127.5, rtol=0, atol=1e-3)


@pytest.mark.parametrize("resize", [metric.resize_clean, metric.resize_tf1])
def test_a_picture_of_the_networks_size_stays_as_it_is(resize):
    pixels = checks(299) // 3
    found = resize(pixels)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, pixels)


def test_batches_have_one_size_and_features_the_order_of_their_pictures(monkeypatch):
    batches = []

    def means(params, images):
        batches.append(images.shape)
        return jnp.tile(images.mean((1, 2)), (1, 683))[:, :2048]

    monkeypatch.setattr(metric, "_features", means)
    pixels = [np.full((8, 9, 3), i + 1, np.uint8) for i in range(70)]
    raw = metric.of_images({}, pixels, mode="clean")
    assert batches == [(24, 299, 299, 3)] * 3
    np.testing.assert_allclose(raw[:, 0], np.arange(1, 71), rtol=1e-5)
    unit = metric.of_images({}, pixels, mode="tf1", unit=True)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, rtol=1e-5)


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


def test_what_has_no_features_is_said_in_one_sentence():
    picture = checks(16)
    with pytest.raises(ValueError, match=r"mode='legacy'; expected clean or tf1\.$"):
        metric.of_images({}, [picture], mode="legacy")
    with pytest.raises(ValueError, match="require at least one picture"):
        metric.of_images({}, [], mode="clean")
    with pytest.raises(ValueError, match="74 x 80, Inception takes 75 x 75 or more"):
        inception({}, jnp.zeros((1, 74, 80, 3)))

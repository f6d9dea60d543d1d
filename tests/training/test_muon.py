"""Muon against the polar factor of the momentum, and what it leaves to Adam."""

import jax
import numpy as np
import optax
import pytest

from personax.training.muon import scale_by_muon

B1, B2, EPS = 0.9, 0.99, 1e-8
# The quintic iteration ends with singular values between 0.7 and 1.2 (Jordan 2024).
LOW, HIGH = 0.6, 1.25


def theta():
    shapes = {
        "unet/a/to_k/kernel": (24, 40),
        "unet/b/conv1/kernel": (3, 3, 8, 16),
        "unet/conv_in/kernel": (3, 3, 4, 8),
        "unet/a/norm/scale": (24,),
        "unet/a/to_k/bias": (40,),
        "token/embedding": (2, 24),
    }
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return {
        name: jax.random.normal(key, shape)
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


@pytest.mark.quick
@pytest.mark.parametrize("name", ["unet/a/to_k/kernel", "unet/b/conv1/kernel"])
def test_a_kernel_s_step_is_the_orthogonal_factor_of_its_gradient(name):
    gradients = {"weights": theta()}
    tx = scale_by_muon(B1, B2, EPS)
    steps, _ = tx.update(gradients, tx.init(gradients), gradients)
    gradient, step = (
        np.asarray(tree["weights"][name]).reshape(-1, tree["weights"][name].shape[-1])
        for tree in (gradients, steps)
    )
    u, _, vt = np.linalg.svd(gradient, full_matrices=False)
    scale = 0.2 * np.sqrt(max(gradient.shape))
    inner = u.T @ step @ vt.T / scale
    assert np.all((np.diag(inner) > LOW) & (np.diag(inner) < HIGH))
    np.testing.assert_allclose(inner - np.diag(np.diag(inner)), 0, atol=1e-3)
    assert np.sqrt(np.mean(step**2)) == pytest.approx(0.2, rel=0.2)


@pytest.mark.quick
def test_everything_else_gets_adam_s_step():
    gradients = {"weights": theta()}
    tx, adam = scale_by_muon(B1, B2, EPS), optax.scale_by_adam(B1, B2, EPS)
    steps, _ = tx.update(gradients, tx.init(gradients), gradients)
    expected, _ = adam.update(gradients, adam.init(gradients), gradients)
    others = {name for name in theta() if name.split("/")[1] not in ("a", "b")}
    for name in {"unet/a/norm/scale", "unet/a/to_k/bias", *others}:
        one, other = (tree["weights"][name] for tree in (steps, expected))
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert len(others) == 2

"""NeTI's mapper, its word and its bypass against torch: float32, tolerance 1e-5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from personax.methods.neti import FREQUENCIES, HIDDEN, Mapper, init_mapper
from personax.methods.neti import _frequencies as frequencies
from tests.random_params import random_params

TOLERANCE = 1e-5  # max abs error of what is of length about 1
LAYERS, WIDTH = 5, 24
T = np.array([0.0, 130.0, 999.0, 500.0, 1.0, 70.0], np.float32)
LAYER = np.array([0, 4, 2, 2, 1, 3])


def mapper(kept=None, bypass=0.2):
    shapes = jax.eval_shape(lambda: init_mapper(jax.random.key(0), LAYERS, WIDTH))
    stacked = jax.tree.map(lambda x: x[None], random_params(shapes))
    return Mapper(stacked, kept, bypass=bypass, steps=1000, concept_offset=0)


def in_torch(params, kept):
    """What the paper's network of these parameters says: (word, bypass)."""
    w = torch.stack([torch.from_numpy(x) for x in frequencies()], 1)  # "w 2"
    angles = torch.stack([torch.from_numpy(T), torch.from_numpy(LAYER).float()]).T @ w.T
    x = torch.cat([angles.sin(), angles.cos()], 1)
    x = x / x.norm(dim=1, keepdim=True)

    def linear(layer):
        module = torch.nn.utils.skip_init(torch.nn.Linear, *layer["kernel"][0].shape)
        module.weight.data = torch.tensor(np.asarray(layer["kernel"][0])).T
        module.bias.data = torch.tensor(np.asarray(layer["bias"][0]))
        return module

    def norm(layer):
        module = torch.nn.LayerNorm(HIDDEN)
        module.weight.data = torch.tensor(np.asarray(layer["scale"][0]))
        module.bias.data = torch.tensor(np.asarray(layer["bias"][0]))
        return module

    hidden, norms = params["hidden"], params["norm"]
    net = torch.nn.Sequential(
        linear(params["input"]),
        *(linear(hidden["0"]), norm(norms["0"]), torch.nn.LeakyReLU()),
        *(linear(hidden["1"]), norm(norms["1"]), torch.nn.LeakyReLU()),
    )
    y = net(x)
    if kept is not None:
        for row, j in zip(y, kept, strict=True):
            row[j:] = 0
    return linear(params["output"])(y).chunk(2, dim=1)


@pytest.mark.parametrize("kept", [None, [3, 128, 0, 1, 64, 128]])
@torch.no_grad()
def test_the_word_and_the_bypass_equal_torchs(kept):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((6, 4, WIDTH)).astype(np.float32)
    concept_mask = rng.random((1, 6, 4)) < 0.4
    words = mapper(None if kept is None else jnp.array(kept))
    asked = jnp.asarray(concept_mask), jnp.asarray(T), jnp.asarray(LAYER)
    word, v = in_torch(words.params, kept)
    assert words.params["input"]["kernel"].shape == (1, 2 * FREQUENCIES, 10 * LAYERS)

    embedded, after = x.copy(), x.copy()
    for b, n in zip(*concept_mask[0].nonzero(), strict=True):
        here = torch.from_numpy(x[b, n])
        embedded[b, n] = word[b] / word[b].norm() * here.norm()
        out = here / here.norm() + 0.2 * v[b] / v[b].norm()
        after[b, n] = out / out.norm() * here.norm()
    ours = words.embed(jnp.asarray(x), *asked)
    np.testing.assert_allclose(ours, embedded, atol=TOLERANCE)
    ours = words.after(jnp.asarray(x), *asked)
    np.testing.assert_allclose(ours, after, atol=TOLERANCE)
    assert np.abs(after - x)[concept_mask[0]].max() > 0.1

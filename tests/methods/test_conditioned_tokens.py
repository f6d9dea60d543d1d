"""ProSpect, P+ and Textual Inversion of several vectors: which row is used when."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import methods
from personax.core.tree import count, flat, overwrite
from personax.diffusion.denoiser import Denoiser, encode, encode_at, network
from personax.methods import Concept
from personax.methods.parts.tokens import TABLE
from personax.networks.clip_text import CLIPTextConfig, init_clip_text
from personax.networks.unet import UNetConfig, cross_sites, init_unet

pytestmark = pytest.mark.quick

DOG = Concept("<v1>", "dog", (7,), (7,), "<v1>")
CAT = Concept("<v2>", "cat", (9,), (9,), "<v2>")
IDS = jnp.array([[62, 5, 7, 9, 63, 63, 63, 63, 63, 63, 63, 63]] * 4)
MARKS = jnp.stack([IDS == 7, IDS == 9])


def started(tiny, name, *concepts, **arguments):
    """(the method, theta as if it had been trained)."""
    method = methods.make(name, **arguments)
    theta = methods.init(method, jax.random.key(0), tiny.params, concepts)
    rng = np.random.default_rng(0)
    move = lambda x: x + rng.standard_normal(x.shape).astype(np.float32)  # noqa: E731
    return method, jax.tree.map(move, theta)


def with_rows(tiny, rows):
    """The encodings of four prompts with rows "b k d" for the concepts."""
    table = flat(tiny.params)[TABLE]
    n, (b, k, d) = table.shape[0], rows.shape
    grown = jnp.concatenate([table, rows.reshape(b * k, d)])
    params = overwrite(tiny.params, {TABLE: grown}, resize=True)
    ids = IDS
    for j in range(k):
        own = n + k * jnp.arange(b)[:, None] + j
        ids = jnp.where(MARKS[j], own, ids)
    return encode(tiny.replace(params=params), ids).text


def test_prospect_uses_row_floor_of_t_times_stages_over_t_max(tiny):
    method, theta = started(tiny, "prospect", DOG, CAT)
    vectors = theta["words"]["embedding"]
    assert vectors.shape == (2, 10, 24)
    bound = methods.bind(method, tiny, theta)
    prompt = encode(bound, IDS, MARKS)
    for times, stages in [
        ((0, 99, 100, 199), (0, 0, 1, 1)),
        ((700, 699, 900, 999), (7, 6, 9, 9)),
    ]:
        text = encode_at(bound, prompt, jnp.array(times, jnp.float32)).text
        rows = jnp.moveaxis(vectors[:, np.array(stages)], 0, 1)
        np.testing.assert_allclose(text, with_rows(tiny, rows), atol=1e-5)


@pytest.mark.parametrize("stages", [3, 7, 10])
def test_stages_share_the_timesteps_equally(tiny, stages):
    method, theta = started(tiny, "prospect", DOG, stages=stages)
    (words,) = methods.bind(method, tiny, theta).token_conditioners
    t = jnp.arange(1000)
    x = jnp.zeros((1000, 1, 24))
    embedded = words.embed(x, jnp.ones((1, 1000, 1), bool), t.astype(float), t * 0)
    want = theta["words"]["embedding"][0, np.arange(1000) * stages // 1000]
    np.testing.assert_array_equal(embedded[:, 0], want)


def test_inactive_stages_use_the_class_word(tiny):
    method, theta = started(tiny, "prospect", DOG, speak=(7, 8, 9))
    bound = methods.bind(method, tiny, theta)
    text = encode_at(
        bound, encode(bound, IDS, MARKS), jnp.array([0.0, 699.0, 700.0, 999.0])
    ).text
    plain = encode(tiny, IDS).text
    np.testing.assert_allclose(text[:2], plain[:2], atol=1e-5)
    whole, _ = started(tiny, "prospect", DOG)
    loud = methods.bind(whole, tiny, theta)
    want = encode_at(loud, encode(loud, IDS, MARKS), jnp.full(4, 999.0)).text
    np.testing.assert_allclose(text[3], want[3], atol=1e-5)
    assert np.abs(text[3] - plain[3]).max() > 0.1


def test_extended_textual_inversion_has_a_row_for_each_layer(tiny):
    method, theta = started(tiny, "extended_textual_inversion", DOG, CAT)
    vectors = theta["words"]["embedding"]
    sites = cross_sites(tiny.params["unet"])
    assert vectors.shape == (2, len(sites), 24)
    bound = methods.bind(method, tiny, theta)
    text = encode_at(bound, encode(bound, IDS, MARKS), jnp.zeros(4)).text
    for layer in range(len(sites)):
        rows = jnp.broadcast_to(vectors[None, :, layer], (4, 2, 24))
        want = with_rows(tiny, rows)
        np.testing.assert_allclose(text[layer], want, atol=1e-5)


def test_inactive_layers_use_the_class_word(tiny):
    method, theta = started(tiny, "extended_textual_inversion", DOG, speak=(1,))
    bound = methods.bind(method, tiny, theta)
    text = encode_at(bound, encode(bound, IDS, MARKS), jnp.zeros(4)).text
    plain = encode(tiny, IDS).text
    different = [bool(np.abs(layer - plain).max() > 1e-2) for layer in text]
    assert different == [i == 1 for i in range(len(different))]


@pytest.mark.parametrize("name", ["prospect", "extended_textual_inversion"])
def test_an_index_out_of_range_is_refused(tiny, name):
    with pytest.raises(ValueError, match="are 0 to"):
        started(tiny, name, DOG, speak=(99,))
    for wrong in (DOG._replace(ids=(7, 7), initial=(7, 7)), Concept("", "dog", (), ())):
        with pytest.raises(ValueError, match="one vector"):
            started(tiny, name, wrong)
    with pytest.raises(ValueError, match="stages=0: expected a value >= 1"):
        methods.make("prospect", stages=0)


def test_textual_inversion_trains_each_of_several_vectors(tiny):
    method = methods.make("textual_inversion")
    several = Concept("<v1>", "dog", (64, 65, 66), (7, 7, 9), "<v1>")
    theta = methods.init(method, jax.random.key(0), tiny.params, [several])
    table = flat(tiny.params)[TABLE]
    rows = theta["tokens"]["embedding"]
    np.testing.assert_array_equal(rows, table[np.array([7, 7, 9])])
    ids = jnp.array([[62, 5, 64, 65, 66, 63, 63, 63, 63, 63, 63, 63]])
    x = jax.random.normal(jax.random.key(1), (1, 8, 8, 4))

    @jax.jit
    @jax.grad
    def gradient(theta):
        bound = methods.bind(method, tiny, theta)
        out, _ = network(bound, x, jnp.array([500.0]), encode(bound, ids))
        return jnp.square(out).mean()

    gradients = gradient(theta)["tokens"]["embedding"]
    assert (np.abs(gradients).max(axis=1) > 1e-6).all()
    # Equal initial rows receive different gradients: their positions differ.
    assert np.abs(gradients[0] - gradients[1]).max() > 1e-6


@pytest.mark.parametrize(
    ("name", "vectors", "numbers"),
    [
        ("textual_inversion", 1, 768),
        ("textual_inversion", 4, 4 * 768),
        ("prospect", 1, 10 * 768),
        ("extended_textual_inversion", 1, 16 * 768),
        ("neti", 1, 563_616),
    ],
)
def test_counts_on_sd15(name, vectors, numbers):
    method = methods.make(name)
    concept = DOG._replace(ids=(7,) * vectors, initial=(7,) * vectors)

    def theta():
        key = jax.random.key(0)
        params = {
            "unet": init_unet(key, UNetConfig()),
            "text_encoder": init_clip_text(key, CLIPTextConfig()),
        }
        return methods.init(method, key, Denoiser(params).params, [concept])

    assert count(jax.eval_shape(theta)) == numbers

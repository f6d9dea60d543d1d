"""Words that change with time or layer: what each site reads at each step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct
from jaxtyping import Array, Float

from personax.core.tree import flat, overwrite
from personax.diffusion.denoiser import (
    Prompt,
    TokenConditioner,
    encode,
    encode_at,
    network,
)
from personax.diffusion.guidance import cfg, guide
from personax.methods.parts.tokens import TABLE
from personax.networks.attention import Edit
from personax.networks.unet import cross_sites, unet
from tests.methods.test_laws import small_denoiser

pytestmark = pytest.mark.quick

# Three prompts of twelve tokens; 7 is the marked word, the last has none.
IDS = jnp.array(
    [
        [62, 5, 7, 6, 63, 63, 63, 63, 63, 63, 63, 63],
        [62, 7, 4, 63, 63, 63, 63, 63, 63, 63, 63, 63],
        [62, 5, 6, 63, 63, 63, 63, 63, 63, 63, 63, 63],
    ]
)
MASK = (IDS == 7)[None]
T = jnp.array([10.0, 500.0, 990.0])
BATCH = {"x": jax.random.normal(jax.random.key(5), (3, 8, 8, 4)), "t": T}


@struct.dataclass
class Rows:
    """The word is row (number of the layer, late or early) of a table."""

    table: Float[Array, "l 2 d"]
    nudge: Float[Array, " d"]
    concept_offset: int = struct.field(pytree_node=False, default=0)
    by_layer: bool = struct.field(pytree_node=False, default=True)

    def embed(self, x, concept_mask, t, layer):
        row = self.table[layer, (t >= 500).astype(int)]
        return jnp.where(concept_mask[self.concept_offset][..., None], row[:, None], x)

    def after(self, states, concept_mask, t, layer):
        nudged = states + self.nudge[None, None]
        mask = concept_mask[self.concept_offset][..., None]
        return jnp.where(mask, nudged, states)


def rows(layers, seed=0, **settings):
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((layers, 2, 24)).astype(np.float32)
    return Rows(jnp.asarray(table), jnp.zeros(24), **settings)


@pytest.fixture(scope="module")
def small():
    return small_denoiser()


@jax.jit
def text_at(denoiser, mask, t):
    """The texts of the three prompts."""
    prompt = encode(denoiser, IDS, mask)
    assert prompt.text is None
    return encode_at(denoiser, prompt, t).text


def with_words(denoiser, *words):
    assert all(isinstance(each, TokenConditioner) for each in words)
    return denoiser.replace(token_conditioners=words)


@jax.jit
def table_row(denoiser, row, ids, mask):
    """The text encoder's output with the masked tokens as a row of the table."""
    table = flat(denoiser.params)[TABLE]
    grown = jnp.concatenate([table, row[None]])
    params = overwrite(denoiser.params, {TABLE: grown}, resize=True)
    return encode(
        denoiser.replace(params=params), jnp.where(mask, table.shape[0], ids)
    ).text


def test_each_layer_and_time_reads_what_a_row_of_the_table_would_say(tiny):
    layers = len(cross_sites(tiny.params["unet"]))
    words = rows(layers)
    denoiser = with_words(tiny, words)
    text = text_at(denoiser, MASK, T)
    assert text.shape == (layers, 3, 12, 24)
    for layer in range(layers):
        for b in range(3):
            row = words.table[layer, int(T[b] >= 500)]
            want = table_row(tiny, row, IDS[b : b + 1], MASK[0, b : b + 1])
            np.testing.assert_allclose(text[layer, b], want[0], atol=1e-5)
    assert np.abs(text[0, 0] - text[1, 0]).max() > 0.1


def test_words_that_change_with_time_alone_are_read_once_for_all_layers(tiny):
    words = rows(1, by_layer=False)
    denoiser = with_words(tiny, words)
    text = text_at(denoiser, MASK, T)
    assert text.shape == (3, 12, 24)
    for b in range(3):
        row = words.table[0, int(T[b] >= 500)]
        want = table_row(tiny, row, IDS[b : b + 1], MASK[0, b : b + 1])
        np.testing.assert_allclose(text[b], want[0], atol=1e-5)
    # One time for all rows, as the sampler has it.
    same = text_at(denoiser, MASK, jnp.float32(990))
    np.testing.assert_allclose(same[1], text[1], atol=1e-6)
    assert np.abs(same[0] - text[0]).max() > 0.1


def test_a_prompt_without_marks_is_read_as_ever(tiny):
    denoiser = with_words(tiny, rows(len(cross_sites(tiny.params["unet"]))))
    plain = encode(tiny, IDS).text
    np.testing.assert_array_equal(encode(denoiser, IDS).text, plain)
    text = text_at(denoiser, MASK & False, T)
    for layer in text:
        np.testing.assert_allclose(layer, plain, atol=1e-5)


def test_what_comes_after_the_encoder_is_said_at_the_marks_alone(tiny):
    words = rows(1, by_layer=False)
    quiet = with_words(tiny, words)
    loud = with_words(tiny, words.replace(nudge=jnp.ones(24)))
    before, after = text_at(quiet, MASK, T), text_at(loud, MASK, T)
    want = before + MASK[0][..., None].astype(jnp.float32)
    np.testing.assert_allclose(after, want, atol=1e-5)


def test_each_concept_speaks_at_its_own_marks(tiny):
    mask = jnp.stack([IDS == 7, IDS == 5])
    words = rows(1, by_layer=False), rows(1, seed=1, by_layer=False, concept_offset=1)
    ours = with_words(tiny, *words)
    text = text_at(ours, mask, T)
    x = jax.random.normal(jax.random.key(0), (3, 12, 24))
    late = (T >= 500).astype(int)
    seven, five = (each.table[0, late][:, None] for each in words)
    want = jnp.where(mask[0][..., None], seven, x)
    want = jnp.where(mask[1][..., None], five, want)
    for each in words:
        x = each.embed(x, mask, T, jnp.zeros(3, int))
    np.testing.assert_array_equal(x, want)
    # Marked with one alone, the other word stays what the vocabulary has.
    alone = with_words(tiny, words[0])
    other = text_at(alone, mask, T)
    np.testing.assert_allclose(text[1], other[1], atol=1e-6)  # has no 5
    assert np.abs(text[0] - other[0]).max() > 0.1


def test_each_site_reads_its_own_text(tiny):
    names = cross_sites(tiny.params["unet"])
    denoiser = with_words(tiny, rows(len(names)))

    @jax.jit
    def run(denoiser, mask):
        texts = {}

        def spy(site, context):
            def edit(k, v, text):
                texts[site.name] = text
                return k, v

            return Edit(kv=edit) if site.kind == "cross" else Edit()

        prompt = encode(denoiser, IDS, mask)
        network(denoiser, **BATCH, prompt=prompt, controls=(spy,))
        return texts

    texts, text = run(denoiser, MASK), text_at(denoiser, MASK, T)
    assert set(texts) == set(names)
    for i, name in enumerate(names):
        np.testing.assert_allclose(texts[name], text[i], atol=1e-6, err_msg=name)


def test_recomputation_changes_neither_prediction_nor_gradient(small):
    words = rows(len(cross_sites(small.params["unet"])))

    def run(remat):
        compute = dataclasses.replace(small.spec.compute, remat=remat)
        denoiser = small.replace(spec=dataclasses.replace(small.spec, compute=compute))

        def loss(table):
            own = with_words(denoiser, words.replace(table=table))
            out, _ = network(own, **BATCH, prompt=encode(own, IDS, MASK))
            return jnp.square(out).mean()

        return jax.jit(jax.value_and_grad(loss))(words.table)

    want, expected_gradient = run("none")
    assert (
        np.abs(expected_gradient).max(axis=(1, 2)) > 1e-5
    ).all()  # every layer's row
    for level in ("layer", "block"):
        ours, gradient = run(level)
        np.testing.assert_allclose(ours, want, rtol=1e-5)
        np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


@pytest.mark.parametrize("by_layer", [True, False])
def test_guidance_reads_one_row_for_all_images(small, by_layer):
    names = cross_sites(small.params["unet"])
    words = rows(len(names) if by_layer else 1, by_layer=by_layer)
    denoiser = with_words(small, words)
    prompt = encode(denoiser, IDS[:1], MASK[:, :1])
    null = encode(denoiser, IDS[2:])
    t = jnp.float32(700)
    eps = guide({"base": denoiser}, cfg(prompt, null, jnp.float32(3)))
    ours, _ = jax.jit(eps)(BATCH["x"], t, jnp.int32(0))

    @jax.jit
    def alone(texts):
        def of(site):
            return jnp.repeat(texts[site.name], 3, axis=0)

        times = jnp.full(3, t)
        return unet(small.params["unet"], small.spec.unet, BATCH["x"], times, of)[0]

    # Each site's text by hand, as a row of the table would be read.
    each = jnp.broadcast_to(words.table[:, 1], (len(names), 24))
    texts = [table_row(small, row, IDS[:1], MASK[0, :1]) for row in each]
    spoken = alone(dict(zip(names, texts, strict=True)))
    plain = alone(dict.fromkeys(names, null.text))
    np.testing.assert_allclose(ours, plain + 3 * (spoken - plain), atol=1e-4)
    assert np.abs(spoken - plain).max() > 1e-3


def test_a_prompt_that_was_read_is_not_read_again(tiny):
    denoiser = with_words(tiny, rows(1, by_layer=False))
    prompt = Prompt(encode(tiny, IDS).text, MASK)
    assert encode_at(denoiser, prompt, T) is prompt

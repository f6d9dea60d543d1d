"""What a step sees of a stream: its pictures encoded, its words read."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.core.images import to_float
from personax.data.latents import Cached
from personax.data.order import Order
from personax.data.stream import CaptionPolicy, Pictures, Stream
from personax.diffusion.denoiser import Denoiser, encode
from personax.methods.losses import Batch
from personax.networks import vae
from personax.networks.clip_text import init_clip_text
from personax.networks.tokenizer import add_placeholder, tokenize
from personax.training.sharding import make_mesh, over_batch
from personax.training.stream_setup import Material
from personax.training.streaming import (
    Language,
    held_out,
    make_flow,
    make_source,
    tiles,
)
from tests.data.test_latents import ABOUT, write
from tests.data.test_stream import Numbered
from tests.random_params import random_params

ENCODE = jax.jit(vae.encode, static_argnames="config")
READ = jax.jit(lambda denoiser, ids: encode(denoiser, ids).text)
ROWS, SIZE = 8, (16, 16)
PROMPTS = ("a photo of a <v1> dog", "a photo of my <v1> dog")


@pytest.fixture(scope="module")
def language(emoji):
    tokenizer = add_placeholder(emoji.tokenizer, "<v1>")
    pairs = tokenize(tokenizer, ["a photo of a <v1> dog", "a photo of a dog"])[None]
    return Language(tokenizer, ("<v1>",), "<v1> dog", "dog", pairs)


@pytest.fixture(scope="module")
def spec(tiny_spec, emoji):
    """The tiny model, with the embedded base's words."""
    text = dataclasses.replace(
        tiny_spec.text_encoder, vocab_size=1212, max_position_embeddings=32
    )
    return dataclasses.replace(tiny_spec, text_encoder=text)


@pytest.fixture(scope="module")
def denoiser(spec):
    """One that does no more than read."""
    shapes = jax.eval_shape(
        lambda: init_clip_text(jax.random.key(0), spec.text_encoder)
    )
    params = random_params(shapes)
    return Denoiser({"text_encoder": params}, spec=spec)


def flow(
    spec, params, language, pictures, words=CaptionPolicy(PROMPTS), text=None, **options
):
    reader = options.pop("reader", None)
    order = Order(len(pictures), ROWS, 0, held_out=options.pop("held_out", 0))
    reader = reader or Pictures(pictures, [SIZE], flip=True)
    material = Material(
        stream=Stream(reader, order, words, rows=range(ROWS)),
        pictures=pictures,
        sizes=(SIZE,),
        workers=0,
        digest=f"{len(pictures)}",
        text=options.pop("has_text", False),
    )
    return make_flow(
        material, params["vae"], spec, language, make_mesh(), frozen_text=text
    )


@pytest.fixture(scope="module")
def plain(spec, tiny_params, language):
    return flow(spec, tiny_params, language, Numbered(20), held_out=4)


def test_pictures_are_encoded_and_captions_read(plain, spec, tiny_params, language):
    source = make_source(plain)
    batch, rows = source.batch(0), plain.material.stream.step(0)
    images = jnp.asarray(to_float(rows["pixels"]))
    expected = ENCODE(tiny_params["vae"], config=spec.vae, images=images)
    np.testing.assert_allclose(batch.posterior.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(batch.posterior.logvar, expected.logvar, atol=1e-5)
    ids = tokenize(language.tokenizer, rows["caption"])
    np.testing.assert_array_equal(batch.ids, ids)
    own = [caption.replace("<v1> dog", "dog") for caption in rows["caption"]]
    np.testing.assert_array_equal(batch.plain, tokenize(language.tokenizer, own))
    np.testing.assert_array_equal(batch.concept_mask[:, 0], ids == emoji_size(language))
    np.testing.assert_array_equal(batch.pairs, language.pairs)
    assert batch.text is batch.weight is batch.mask is None
    spread = over_batch(plain.mesh)
    assert batch.posterior.mean.sharding.is_equivalent_to(spread, 4)
    source.close()


def emoji_size(language):
    """The id of the placeholder."""
    return language.tokenizer.size


def assert_equal(one: Batch, other: Batch):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_it_goes_on_where_it_was_and_steps_may_be_asked_for_again(plain):
    whole, source = make_source(plain), make_source(plain)
    batches = [whole.batch(i) for i in range(6)]
    assert whole.state() == {"step": 6, "stream": "20"}
    source.restore({"step": 4, "stream": "20"}, 4)
    assert_equal(source.batch(4), batches[4])
    assert_equal(source.batch(5), batches[5])
    assert_equal(source.batch(2), batches[2])
    assert source.state()["step"] == 3
    with pytest.raises(ValueError, match="stream is not the config's"):
        source.restore({"step": 4, "stream": "21"}, 4)
    whole.close()
    source.close()
    source.close()


def test_frozen_text_of_few_captions_is_read_once(
    spec, denoiser, language, tiny_params
):
    words = CaptionPolicy(PROMPTS, dropout=0.3)
    found = flow(spec, tiny_params, language, Numbered(20), words, denoiser)
    assert found.texts.shape == (3, 32, 24)
    source, seen = make_source(found), set()
    for step in range(3):
        batch = source.batch(step)
        expected = READ(denoiser, batch.ids)
        np.testing.assert_allclose(batch.text, expected, atol=1e-5)
        seen |= {row.tobytes() for row in np.asarray(batch.ids)}
    source.close()
    assert len(seen) == 3


def test_captions_without_number_are_read_in_the_step(
    spec, denoiser, language, tiny_params
):
    found = flow(spec, tiny_params, language, Numbered(20), CaptionPolicy(), denoiser)
    batch = make_source(found).batch(0)
    assert batch.text is None
    rows = found.material.stream.step(0)
    ids = tokenize(language.tokenizer, rows["caption"])
    np.testing.assert_array_equal(batch.ids, ids)
    np.testing.assert_array_equal(batch.plain, ids)
    assert not batch.concept_mask.any()


@pytest.fixture(scope="module")
def cache(tmp_path_factory, spec):
    about = dataclasses.replace(
        ABOUT, sizes=(SIZE,), buckets=0, factor=2, channels=4, text=(32, 24), count=30
    )
    return write(tmp_path_factory.mktemp("cache"), about)


def test_a_cache_gives_latents_and_text_and_dropped_captions_the_empty_one(
    spec, denoiser, language, tiny_params, cache
):
    reader, words = Cached(cache, flip=True, text=True), CaptionPolicy(dropout=0.4)
    found = flow(
        spec,
        tiny_params,
        language,
        cache,
        words,
        denoiser,
        reader=reader,
        has_text=True,
    )
    batch, rows = make_source(found).batch(0), found.material.stream.step(0)
    np.testing.assert_array_equal(batch.posterior.mean, rows["mean"].astype(np.float32))
    np.testing.assert_array_equal(
        batch.posterior.logvar, rows["logvar"].astype(np.float32)
    )
    silent = np.array([not caption for caption in rows["caption"]])
    assert 0 < silent.sum() < ROWS
    nothing = tokenize(language.tokenizer, [""])
    # Of as many as above, so that it is compiled already.
    empty = np.asarray(READ(denoiser, np.repeat(nothing, ROWS, axis=0)))[0]
    for i in range(ROWS):
        text = empty if silent[i] else rows["text"][i].astype(np.float32)
        np.testing.assert_allclose(batch.text[i], text, atol=1e-5)
        ids = nothing[0] if silent[i] else rows["ids"][i]
        np.testing.assert_array_equal(batch.ids[i], ids)


def test_where_words_train_a_cache_s_text_is_left(spec, language, tiny_params, cache):
    reader = Cached(cache, text=True)
    found = flow(
        spec,
        tiny_params,
        language,
        cache,
        reader=reader,
        has_text=True,
        words=CaptionPolicy(),
    )
    batch, rows = make_source(found).batch(0), found.material.stream.step(0)
    assert batch.text is None
    ids = tokenize(language.tokenizer, rows["caption"])
    np.testing.assert_array_equal(batch.ids, ids)


def test_what_is_held_out_is_the_same_each_time_and_in_no_step(plain):
    first, again = held_out(plain), held_out(plain)
    assert len(first) == 1
    assert_equal(first[0], again[0])
    kept = {tuple(np.ravel(mean)) for mean in np.asarray(first[0].posterior.mean)}
    assert len(kept) == 4
    source = make_source(plain)
    for step in range(6):
        for mean in np.asarray(source.batch(step).posterior.mean):
            assert tuple(np.ravel(mean)) not in kept
    source.close()


def test_its_first_pictures_are_shown(plain, spec, tiny_params, language, cache):
    shown = tiles(plain, 12)
    numbers = np.concatenate([plain.material.stream.order.step(i) for i in (0, 1)])
    assert [int(pixels[0, 0, 1]) for pixels in shown] == numbers[:12].tolist()
    decoded = tiles(flow(spec, tiny_params, language, cache, reader=Cached(cache)), 3)
    assert [each.shape for each in decoded] == [(16, 16, 3)] * 3
    assert decoded[0].dtype == np.uint8


def test_what_cannot_be_read_is_named_once(spec, language, tiny_params, capsys):
    found = flow(spec, tiny_params, language, Numbered(6, bad=(2, 4)))
    source = make_source(found)
    for step in range(4):
        source.batch(step)
    source.close()
    said = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ")[1] for line in said) == [
        "2 cannot be read",
        "4 cannot be read",
    ]
    assert said[1].startswith("skipped (2 so far)")

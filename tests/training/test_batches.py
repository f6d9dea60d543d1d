"""Batches of a stream: pictures encoded, captions tokenised, read ahead."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax.core.images import to_float
from personax.data.latents import LatentReader
from personax.data.order import Order
from personax.data.stream import CaptionPolicy, HeldOut, PictureReader, Stream
from personax.diffusion.denoiser import Denoiser, encode
from personax.methods.losses import Batch
from personax.networks import vae
from personax.networks.clip_text import init_clip_text
from personax.networks.tokenizer import add_placeholder, tokenize
from personax.training.batches import Batcher, CaptionTokenizer, Source
from personax.training.sharding import make_mesh, over_batch
from tests.data.test_latents import ABOUT, write
from tests.data.test_stream import Numbered
from tests.random_params import random_params

ENCODE = jax.jit(vae.encode, static_argnames="config")
READ = jax.jit(lambda denoiser, ids: encode(denoiser, ids).text)
ROWS, SIZE = 8, (16, 16)
PROMPTS = ("a photo of a <v1> dog", "a photo of my <v1> dog")


@pytest.fixture(scope="module")
def tokenizer(emoji):
    return add_placeholder(emoji.tokenizer, "<v1>")


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


def make_stream(pictures, policy=CaptionPolicy(PROMPTS), reader=None, held_out=0):
    policy = policy._replace(phrase="<v1> dog", class_word="dog")
    reader = reader or PictureReader(pictures, [SIZE], flip=True)
    order = Order(len(pictures), ROWS, 0, held_out=held_out)
    return Stream(reader, order, policy, local=range(ROWS), digest=f"{len(pictures)}")


@pytest.fixture(scope="module")
def batcher(spec, tiny_params, tokenizer):
    """A dataset to its batcher of the tiny model, on all devices."""

    def make(dataset, frozen_text=None):
        pairs = ["a photo of a <v1> dog", "a photo of a dog"]
        return Batcher(
            dataset,
            tiny_params["vae"],
            spec,
            CaptionTokenizer(tokenizer, ("<v1>",)),
            make_mesh(),
            pairs=tokenize(tokenizer, pairs)[None],
            frozen_text=frozen_text,
        )

    return make


@pytest.fixture(scope="module")
def plain(batcher):
    """A stream, and its batcher."""
    stream = make_stream(Numbered(20), held_out=4)
    return stream, batcher(stream)


def test_pictures_are_encoded_and_captions_read(plain, spec, tiny_params, tokenizer):
    stream, batcher = plain
    source = Source(stream, batcher)
    batch, rows = source.batch(0), stream.step(0)
    images = jnp.asarray(to_float(rows["pixels"]))
    expected = ENCODE(tiny_params["vae"], config=spec.vae, images=images)
    np.testing.assert_allclose(batch.posterior.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(batch.posterior.logvar, expected.logvar, atol=1e-5)
    ids = tokenize(tokenizer, rows["caption"])
    np.testing.assert_array_equal(batch.ids, ids)
    own = [caption.replace("<v1> dog", "dog") for caption in rows["caption"]]
    np.testing.assert_array_equal(batch.plain, tokenize(tokenizer, own))
    placeholder = tokenizer.size
    np.testing.assert_array_equal(batch.concept_mask[:, 0], ids == placeholder)
    np.testing.assert_array_equal(batch.pairs, batcher.pairs)
    assert batch.text is batch.weight is batch.mask is None
    spread = over_batch(batcher.mesh)
    assert batch.posterior.mean.sharding.is_equivalent_to(spread, 4)
    source.close()


def assert_equal(one: Batch, other: Batch):
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_it_goes_on_where_it_was_and_steps_may_be_asked_for_again(plain):
    whole, source = Source(*plain), Source(*plain)
    batches = [whole.batch(i) for i in range(6)]
    assert whole.state() == {"step": 6, "stream": "20"}
    source.restore({"step": 4, "stream": "20"}, 4)
    assert_equal(source.batch(4), batches[4])
    assert_equal(source.batch(5), batches[5])
    assert_equal(source.batch(2), batches[2])
    assert source.state()["step"] == 3
    with pytest.raises(ValueError, match="written with another stream"):
        source.restore({"step": 4, "stream": "21"}, 4)
    whole.close()
    source.close()
    source.close()


def test_frozen_text_of_few_captions_is_encoded_once(batcher, denoiser):
    stream = make_stream(Numbered(20), CaptionPolicy(PROMPTS, dropout=0.3))
    make = batcher(stream, denoiser)
    assert make.texts.shape == (3, 32, 24)
    source, captions = Source(stream, make), set()
    for step in range(3):
        batch = source.batch(step)
        expected = READ(denoiser, batch.ids)
        np.testing.assert_allclose(batch.text, expected, atol=1e-5)
        captions |= {row.tobytes() for row in np.asarray(batch.ids)}
    source.close()
    assert len(captions) == 3


def test_captions_without_number_are_encoded_in_the_step(batcher, denoiser, tokenizer):
    stream = make_stream(Numbered(20), CaptionPolicy())
    rows = stream.step(0)
    batch = batcher(stream, denoiser)(rows)
    assert batch.text is None
    ids = tokenize(tokenizer, rows["caption"])
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
    batcher, denoiser, tokenizer, cache
):
    reader = LatentReader(cache, flip=True, has_text=True)
    stream = make_stream(cache, CaptionPolicy(dropout=0.4), reader)
    rows = stream.step(0)
    batch = batcher(stream, denoiser)(rows)
    np.testing.assert_array_equal(batch.posterior.mean, rows["mean"].astype(np.float32))
    np.testing.assert_array_equal(
        batch.posterior.logvar, rows["logvar"].astype(np.float32)
    )
    dropped = np.array([not caption for caption in rows["caption"]])
    assert 0 < dropped.sum() < ROWS
    nothing = tokenize(tokenizer, [""])
    # Of as many as above, so that it is compiled already.
    empty = np.asarray(READ(denoiser, np.repeat(nothing, ROWS, axis=0)))[0]
    for i in range(ROWS):
        text = empty if dropped[i] else rows["text"][i].astype(np.float32)
        np.testing.assert_allclose(batch.text[i], text, atol=1e-5)
        ids = nothing[0] if dropped[i] else rows["ids"][i]
        np.testing.assert_array_equal(batch.ids[i], ids)


def test_where_the_text_encoder_trains_cached_text_is_not_used(
    batcher, tokenizer, cache
):
    stream = make_stream(cache, CaptionPolicy(), LatentReader(cache, has_text=True))
    rows = stream.step(0)
    batch = batcher(stream)(rows)
    assert batch.text is None
    ids = tokenize(tokenizer, rows["caption"])
    np.testing.assert_array_equal(batch.ids, ids)


def test_held_out_pictures_are_the_same_each_time_and_in_no_step(plain, batcher):
    stream, _ = plain
    held_out = HeldOut(stream)
    assert held_out.steps == 1
    make = batcher(held_out)
    first, again = make(held_out.step(0)), make(held_out.step(0))
    assert_equal(first, again)
    means = {tuple(np.ravel(mean)) for mean in np.asarray(first.posterior.mean)}
    assert len(means) == 4
    source = Source(*plain)
    for step in range(6):
        for mean in np.asarray(source.batch(step).posterior.mean):
            assert tuple(np.ravel(mean)) not in means
    source.close()


def test_unreadable_pictures_are_reported_once(batcher, capsys):
    stream = make_stream(Numbered(6, bad=(2, 4)))
    source = Source(stream, batcher(stream))
    for step in range(4):
        source.batch(step)
    source.close()
    messages = capsys.readouterr().err.splitlines()
    assert sorted(line.split(": ")[1] for line in messages) == [
        "2 cannot be read",
        "4 cannot be read",
    ]
    assert messages[1].startswith("skipped (2 so far)")

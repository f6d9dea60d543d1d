"""Runs that stream: each method trains on a large set as on few pictures."""

import importlib

import jax
import numpy as np
import pytest

from personax.data import emoji as world
from personax.training import inputs, workdir
from personax.training.setup import prepare
from personax.training.state import create
from personax.training.step import make_step


@pytest.fixture
def streaming(monkeypatch, emoji):
    """The run of a config on portraits, with the base already loaded."""
    monkeypatch.setattr("personax.training.setup.load_base", lambda *_, **__: emoji)

    def start(name, **stream):
        config = importlib.import_module(f"configs.emoji_{name}").get_config()
        config.prior.source, config.batch = "", jax.device_count()
        config.concept.class_word, config.concept.images = "man", "/nowhere"
        config.stream.update({"source": "portraits:people:60", **stream})
        config.validation.every, config.validation.count = 5, 4
        return prepare(config)

    return start


@pytest.mark.parametrize(
    "name", ["textual_inversion", "custom_diffusion", "dreambooth"]
)
def test_a_method_s_step_traces_on_a_stream_s_batch(streaming, name):
    run = streaming(name)
    source, batches = inputs.make_source(run)
    batch = source.batch(0)
    source.close()
    assert len(batches) == 1
    trains_words = name in ("textual_inversion", "custom_diffusion")
    assert (batch.text is None) == trains_words
    marked = np.asarray(batch.concept_mask).any(axis=(1, 2))
    assert marked.all() == bool(run.concepts[0].placeholder)
    state = create(run.theta, run.tx.init(run.theta), jax.random.key(0))
    step = make_step(run.method, run.tx)
    after, metrics = jax.eval_shape(step, state, run.plain.denoiser, batch)
    assert after.theta.keys() == run.theta.keys()
    assert metrics["loss"].shape == ()
    for leaf in jax.tree.leaves(jax.eval_shape(lambda x: x, (batch, batches[0]))):
        assert leaf.shape[0] in (jax.device_count(), 1)


def test_its_sheet_shows_the_set_and_its_digest_stands_in_the_record(
    streaming, tmp_path, monkeypatch
):
    run = streaming("dreambooth", captions="none")
    # At the last sheet the first theta is no more: the step has donated it.
    monkeypatch.setattr(inputs, "_frozen_text", None)
    tiles = inputs.training_tiles(run)
    assert len(tiles) == 8
    numbers = run.dataset.order.step(0).tolist()
    sprites = world.load_sprites()
    for number, pixels in zip(numbers, tiles, strict=True):
        rng = np.random.default_rng((0, number))
        scene = world.portrait_scene(rng, sprites)
        np.testing.assert_array_equal(world.portrait(rng, sprites, scene), pixels)
    workdir.claim(tmp_path, run.config, run.dataset.fingerprint())
    record = (tmp_path / "run.json").read_text()
    assert "portraits" in record
    assert "people', count=60" in record
    assert "4 held out" in record
    assert "pictures 0" not in record

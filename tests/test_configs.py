"""Every config is valid, and its training step traces."""

import importlib
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import pytest

from configs import common
from personax.core.config import plain
from personax.methods.losses import Batch
from personax.networks.vae import Posterior
from personax.training.config import TrainConfig, train_config
from personax.training.setup import prepare
from personax.training.state import create
from personax.training.step import make_step

FOLDER = pathlib.Path(__file__).parent.parent / "configs"
SHARED = ("__init__", "common", "emoji", "sd15")
NAMES = sorted(file.stem for file in FOLDER.glob("*.py") if file.stem not in SHARED)


@pytest.fixture
def build(tmp_path):
    """A config by name, with the embedded base as its base."""

    def build(name):
        config = importlib.import_module(f"configs.{name}").get_config()
        if name.startswith("sd15"):
            config.base, config.size = "emoji", 32
            config.concept.initial = config.concept.initial and "fores"
            config.concept.class_word = "dog"
        if config.concepts_list:
            subjects = (("<v1>", "dog"), ("<v2>", "cat"))
            entries = [
                {"placeholder": v, "class_word": word, "instance_data_dir": word}
                for v, word in subjects
            ]
            path = tmp_path / "concepts.json"
            path.write_text(json.dumps(entries))
            config.concepts_list = str(path)
        config.corpus = config.corpus and "world:64"
        if config.stream.source.startswith(("tfds:", "cache:")):
            config.stream.source = "scenes:64"  # needs no download
        if config.method == "concept_centric":
            config.method_args.null_norm = "token_mean"  # the other norm samples first
        config.mesh.shape.data = 1
        config.mesh.shape.fsdp = jax.device_count()
        rows = config.batch * (2 if config.prior.source else 1)
        config.batch *= jax.device_count() // math.gcd(rows, jax.device_count())
        return config

    return build


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_valid_and_its_step_traces(name, build):
    config = build(name)
    run = prepare(config)
    rows = config.batch * config.accumulate * (2 if config.prior.source else 1)
    spec = run.plain.denoiser.spec
    x = jnp.zeros((rows, *spec.latent_shape(*run.size)))
    length = spec.text_encoder.max_position_embeddings
    batch = Batch(
        Posterior(x, x),
        jnp.zeros((rows, length), jnp.int32),
        weight=jnp.ones(rows),
        mask=None if config.data.augment == "none" else x[..., 0],
        concept_mask=jnp.zeros((rows, len(run.known), length), bool),
        pairs=jnp.asarray(run.pairs),
        hint=jnp.zeros((rows, *run.size, 1)) if config.stream.hint else None,
    )
    state = jax.eval_shape(
        lambda theta: create(theta, run.tx.init(theta), jax.random.key(0)), run.theta
    )
    step = make_step(run.method, run.tx, accumulate=config.accumulate)
    after, metrics = jax.eval_shape(step, state, run.plain.denoiser, batch)
    shapes = jax.tree.map(jnp.shape, run.theta)
    assert jax.tree.map(lambda leaf: leaf.shape, after.theta) == shapes
    assert "loss" in metrics


@pytest.mark.quick
def test_the_defaults_of_common_are_those_of_the_dataclasses():
    values = common.get_config().to_dict()
    assert plain(TrainConfig()) == values
    assert train_config(values) == TrainConfig()


@pytest.mark.quick
@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_recorded_as_its_file_spells_it(name):
    values = importlib.import_module(f"configs.{name}").get_config().to_dict()
    assert plain(train_config(values)) == values

"""A trained or published ControlNet in a model, with other concepts."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import emoji_controlnet
from personax import export, methods
from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts, with_control
from personax.core.tree import flat
from personax.loading.write import write_controlnet
from personax.methods import Concept
from personax.networks.controlnet import ControlNetConfig, init_controlnet
from personax.training import setup
from tests.random_params import random_params

pytestmark = pytest.mark.quick
CHANNELS = (4, 4, 8)
ARGUMENTS = {"channels": CHANNELS}


def drawn(emoji, channels):
    config = ControlNetConfig.of(emoji.spec.unet, channels)
    key = jax.random.key(0)
    return random_params(jax.eval_shape(lambda: init_controlnet(key, config)))


def save(folder, emoji, name, theta, **arguments):
    """A concept on disk, called by its method's name."""
    artifact.save(
        folder,
        theta,
        [Concept("", name, (), ())],
        method=name,
        method_args=arguments,
        base=emoji.name,
        fingerprint=emoji.fingerprint,
    )
    return str(folder)


@pytest.fixture(scope="module")
def params(emoji):
    """A ControlNet of the embedded base with random parameters."""
    return drawn(emoji, CHANNELS)


@pytest.fixture(scope="module")
def trained(emoji, params, tmp_path_factory):
    """The folder of a concept of the method controlnet."""
    folder = tmp_path_factory.mktemp("control") / "concept"
    return save(folder, emoji, "controlnet", {"controlnet": params}, **ARGUMENTS)


@pytest.fixture(scope="module")
def folded(emoji, tmp_path_factory):
    """The folder of a concept that changes one layer of the UNet."""
    method = methods.make("dreambooth", train="unet/conv_in/.*")
    theta = methods.init(method, jax.random.key(0), emoji.params, [])
    theta = jax.tree.map(lambda leaf: leaf + 1, theta)
    folder = tmp_path_factory.mktemp("other") / "concept"
    return save(folder, emoji, "dreambooth", theta, train="unet/conv_in/.*")


def check(model, params):
    own = flat(model.denoiser.params["controlnet"])
    assert own.keys() == flat(params).keys()
    for path, leaf in flat(params).items():
        np.testing.assert_array_equal(own[path], leaf, err_msg=path)
    config = model.denoiser.spec.controlnet
    assert config.conditioning_embedding_out_channels == CHANNELS


def test_a_trained_and_a_published_controlnet_give_the_same_model(
    emoji, params, trained, tmp_path
):
    plain = from_base(emoji)
    check(with_control(plain, emoji, trained), params)
    config = ControlNetConfig.of(emoji.spec.unet, CHANNELS)
    write_controlnet(tmp_path / "published", params, config)
    model = with_control(plain, emoji, str(tmp_path / "published"))
    check(model, params)
    assert "controlnet" not in plain.denoiser.params
    assert model.denoiser.params["unet"] is plain.denoiser.params["unet"]


@pytest.mark.parametrize("last", [True, False])
def test_it_is_combined_with_other_concepts_in_any_order(
    emoji, params, trained, folded, last
):
    sources = [folded, trained] if last else [trained, folded]
    model = with_concepts(from_base(emoji), emoji, sources)
    check(model, params)
    kernel = model.denoiser.params["unet"]["conv_in"]["kernel"]
    want = emoji.params["unet"]["conv_in"]["kernel"] + 1
    np.testing.assert_allclose(kernel, want, atol=1e-6)


def test_a_frozen_stream_also_has_it(emoji, params, trained, tmp_path):
    method = methods.make("infusion")
    concepts = [Concept("", "dog", (), ())]
    theta = methods.init(method, jax.random.key(0), emoji.params, concepts)
    infusion = save(tmp_path / "concept", emoji, "infusion", theta)
    for sources in ([infusion, trained], [trained, infusion]):
        model = with_concepts(from_base(emoji), emoji, sources)
        reference = model.denoiser.reference
        check(model, params)
        check(model._replace(denoiser=reference), params)


def test_a_model_has_one_controlnet(emoji, trained):
    with pytest.raises(ValueError, match="second controlnet"):
        with_concepts(from_base(emoji), emoji, [trained, trained])
    once = with_control(from_base(emoji), emoji, trained)
    with pytest.raises(ValueError, match="already has a ControlNet"):
        with_concepts(once, emoji, [trained])


def test_a_controlnet_that_does_not_fit_is_refused(
    emoji, params, trained, folded, tmp_path
):
    plain = from_base(emoji)
    with pytest.raises(ValueError, match="is a concept without a ControlNet"):
        with_control(plain, emoji, folded)
    config = ControlNetConfig.of(emoji.spec.unet, CHANNELS[1:])
    write_controlnet(tmp_path / "fine", drawn(emoji, CHANNELS[1:]), config)
    with pytest.raises(ValueError, match=r"hints at 2 pixels .* has 4\."):
        with_control(plain, emoji, str(tmp_path / "fine"))
    method = methods.make("controlnet", channels=CHANNELS[1:])
    with pytest.raises(ValueError, match=r"1 times, to 1/2; .* latents are 1/4 of"):
        methods.prepare(method, plain.denoiser)


def test_the_export_command_writes_diffusers_files(
    emoji, params, trained, tmp_path, monkeypatch
):
    given = {"base": "emoji", "out": str(tmp_path / "out"), "dtype": "float32"}
    more = {"base_config": None, "variant": None, "allow_pickle": False}
    more |= {"to": "diffusers", "rank": None}
    monkeypatch.setattr(export, "FLAGS", SimpleNamespace(**given, **more))
    monkeypatch.setattr(export, "load_named_base", lambda *_, **__: emoji)
    monkeypatch.setattr(export.command, "start", lambda: None)
    export.main(["export", trained])
    assert not (tmp_path / "out" / "unet").exists()
    check(with_control(from_base(emoji), emoji, given["out"]), params)


def test_a_run_without_hints_is_refused_before_it_starts():
    config = emoji_controlnet.get_config()
    config.stream.hint = ""
    with pytest.raises(ValueError, match="controlnet needs hints: --config"):
        setup.prepare(config)


def test_a_batch_without_hints_is_refused():
    loss = methods.make("controlnet").loss
    batch = methods.losses.Batch(None, jnp.zeros((1, 12), int))
    with pytest.raises(ValueError, match="needs hints"):
        loss(None, batch, None)

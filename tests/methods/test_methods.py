"""Methods by name, their arguments and the parameters they select."""

import jax
import numpy as np
import pytest

from configs import emoji
from personax import methods
from personax.core.tree import count
from personax.diffusion.denoiser import Denoiser
from personax.methods import METHODS, Method, Part, losses
from personax.methods.lora import lora
from personax.methods.parts.base import argument_names, forwards
from personax.methods.parts.tokens import tokens
from personax.training import setup
from tests.methods.test_laws import CONCEPTS

pytestmark = pytest.mark.quick


def theta_of(tiny, name, **arguments):
    method = methods.make(name, **arguments)
    return methods.init(method, jax.random.key(0), tiny.params, CONCEPTS)


def test_an_unknown_method_names_those_that_exist():
    with pytest.raises(ValueError, match="custom_diffusion, class_diffusion"):
        methods.make("custom_difusion")


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_argument_names_those_that_exist(name):
    with pytest.raises(TypeError, match=r"no argument 'trian'; expected .*min_snr"):
        methods.make(name, trian="kv")


def test_a_recipe_forwards_its_keyword_arguments(monkeypatch):
    @forwards(lora)
    def halved(*, rank=8, extra=1.0, **low_rank):
        return lora(rank=rank // 2, **low_rank)

    monkeypatch.setitem(METHODS, "halved", halved)
    assert argument_names(halved) == [
        *("rank", "extra", "alpha", "targets", "words"),
        *("mask_norm", "min_snr", "offset_noise"),
    ]
    assert methods.make("halved", rank=4, words=True).adds_tokens
    with pytest.raises(TypeError, match="no argument 'trian'; expected one of rank, "):
        methods.make("halved", trian="kv")


def test_a_recipe_that_forwards_in_secret_is_refused(monkeypatch):
    def secretive(**low_rank):
        return lora(**low_rank)

    monkeypatch.setitem(METHODS, "secretive", secretive)
    with pytest.raises(TypeError, match=r"secretive takes \*\*low_rank; decorate it"):
        methods.make("secretive")
    with pytest.raises(TypeError, match=r"alone has no \*\*kwargs to forward"):

        @forwards(lora)
        def alone(*, rank=4):
            return lora(rank=rank)


def test_a_renamed_argument_has_both_names():
    key, params = jax.random.key(0), {"unet": {"a": {"kernel": np.ones((2, 2))}}}
    trees = [
        methods.init(methods.make("dreambooth", **{name: True}), key, params, [])
        for name in ("fresh", "from_scratch")
    ]
    kernels = [tree["weights"]["unet/a/kernel"] for tree in trees]
    np.testing.assert_array_equal(*kernels)
    assert (np.asarray(kernels[0]) != 1).all()
    with pytest.raises(TypeError, match="got 'from_scratch' also as 'fresh'"):
        methods.make("dreambooth", fresh=True, from_scratch=True)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_takes_the_denoising_options(name):
    assert methods.make(name, min_snr=5.0, offset_noise=0.1).parts
    with pytest.raises(ValueError, match="mask_norm"):
        methods.make(name, mask_norm="max")


def test_class_diffusion_takes_custom_diffusions_arguments_and_its_own():
    method = methods.make("class_diffusion", train="cross_attention", pool="modifier")
    assert list(method.parts) == ["weights", "tokens", "stop_first"]
    with pytest.raises(ValueError, match="pool"):
        methods.make("class_diffusion", pool="max")


def test_a_dead_pattern_fails_before_any_step(tiny):
    with pytest.raises(ValueError, match="Nearest"):
        theta_of(tiny, "custom_diffusion", train="unet/.*/attn3/.*")


@pytest.mark.parametrize("targets", [("attention", "heads"), ()])
def test_lora_names_its_targets(targets):
    with pytest.raises(ValueError, match="attention, feed_forward, convolutions"):
        methods.make("lora", targets=targets)


@pytest.mark.parametrize(
    ("target", "path", "modules"),
    [
        ("attention", "/attn", 4 * 2 * 4),  # blocks, attentions, projections
        ("feed_forward", "/ff/net/", 4 * 2),
        ("text_encoder", "/self_attn/", 2 * 4),  # layers, projections
        ("convolutions", "/conv", None),
    ],
)
def test_loras_targets_are_the_kernels_that_they_name(tiny, target, path, modules):
    theta = theta_of(tiny, "lora", targets=(target,))["lora"]
    assert all(name.endswith("/kernel") for name in theta)
    if modules is None:
        modules_found = {name.split("/")[-2] for name in theta}
        assert {"conv1", "conv2", "conv_in", "conv_out", "proj_in"} <= modules_found
        assert {"conv", "conv_shortcut", "proj_out"} <= modules_found
    else:
        assert all(path in name for name in theta)
        assert len(theta) == modules


def test_custom_diffusion_trains_keys_and_values_and_one_row(tiny):
    theta = theta_of(tiny, "custom_diffusion")
    assert set(theta) == {"weights", "tokens"}
    assert all("/attn2/to_" in path for path in theta["weights"])
    assert len(theta["weights"]) == 2 * 4  # four cross-attentions in the tiny UNet
    assert count(theta["tokens"]) == 24


def test_only_a_tokens_part_adds_tokens():
    adding = {name for name in METHODS if methods.make(name).adds_tokens}
    assert adding == {
        "custom_diffusion",
        "class_diffusion",
        "textual_inversion",
        "perfusion",
    }
    renamed = Method({"words": tokens()}, losses.denoising())
    assert renamed.adds_tokens
    assert methods.make("lora", words=True).adds_tokens
    assert not methods.make("custom_diffusion", words=False).adds_tokens


def test_after_updates_a_part_s_own_theta_with_earlier_parts_bound():
    def grow(name):
        def bind(denoiser, theta):
            seen = {**denoiser.prepared, name: theta["x"]}
            return denoiser.replace(prepared=seen)

        def after(denoiser, theta, batch):
            return {"x": theta["x"] + batch + sum(denoiser.prepared.values())}

        return Part(lambda key, params, concepts: {"x": 0.0}, bind, after=after)

    method = Method({"a": grow("a"), "b": grow("b")}, losses.denoising())
    theta = {"a": {"x": 1.0}, "b": {"x": 10.0}}
    done = methods.after(method, Denoiser({}), theta, 100.0)
    assert done == {"a": {"x": 101.0}, "b": {"x": 10.0 + 100.0 + 101.0}}
    assert theta["a"] == {"x": 1.0}


def test_a_requirement_that_no_run_provides_is_refused(monkeypatch):
    def deep():
        part = tokens()._replace(requires=frozenset({"depth"}))
        return Method({"tokens": part}, losses.denoising())

    monkeypatch.setitem(METHODS, "deep", deep)
    config = emoji.get_config()
    config.method = "deep"
    with pytest.raises(ValueError, match="deep requires depth; a training run can"):
        setup.prepare(config)

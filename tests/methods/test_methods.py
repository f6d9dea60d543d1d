"""What is asked of a method by name and by pattern."""

import jax
import pytest

from personax import methods
from personax.core.tree import count
from personax.methods import METHODS
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
    with pytest.raises(TypeError, match=r"no 'trian'; it takes: .*min_snr"):
        methods.make(name, trian="kv")


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
        found = {name.split("/")[-2] for name in theta}
        assert {"conv1", "conv2", "conv_in", "conv_out", "proj_in"} <= found
        assert {"conv", "conv_shortcut", "proj_out"} <= found
    else:
        assert all(path in name for name in theta)
        assert len(theta) == modules


def test_custom_diffusion_trains_keys_and_values_and_one_row(tiny):
    theta = theta_of(tiny, "custom_diffusion")
    assert set(theta) == {"weights", "tokens"}
    assert all("/attn2/to_" in path for path in theta["weights"])
    assert len(theta["weights"]) == 2 * 4  # four cross-attentions in the tiny UNet
    assert count(theta["tokens"]) == 24


def test_only_a_tokens_part_adds_words():
    adding = {name for name in METHODS if methods.make(name).adds_words}
    assert adding == {
        "custom_diffusion",
        "class_diffusion",
        "textual_inversion",
        "perfusion",
    }
    assert methods.make("lora", words=True).adds_words
    assert not methods.make("custom_diffusion", words=False).adds_words

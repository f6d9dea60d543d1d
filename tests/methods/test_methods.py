"""What is asked of a method by name and by pattern."""

import jax
import pytest

from personax import methods
from personax.tree import count
from tests.methods.test_laws import CONCEPTS

pytestmark = pytest.mark.quick


def test_an_unknown_method_names_those_that_exist():
    with pytest.raises(ValueError, match="custom_diffusion"):
        methods.make("custom_difusion")


def test_an_unknown_argument_is_a_type_error():
    with pytest.raises(TypeError, match="trian"):
        methods.make("custom_diffusion", trian="kv")


def test_a_dead_pattern_fails_before_any_step(tiny):
    method = methods.make("custom_diffusion", train="unet/.*/attn3/.*")
    with pytest.raises(ValueError, match="Nearest"):
        methods.init(method, jax.random.key(0), tiny.params, CONCEPTS)


def test_custom_diffusion_trains_keys_and_values_and_one_row(tiny):
    method = methods.make("custom_diffusion")
    theta = methods.init(method, jax.random.key(0), tiny.params, CONCEPTS)
    assert set(theta) == {"weights", "tokens"}
    assert all("/attn2/to_" in path for path in theta["weights"])
    assert len(theta["weights"]) == 2 * 4  # four cross-attentions in the tiny UNet
    assert count(theta["tokens"]) == 24

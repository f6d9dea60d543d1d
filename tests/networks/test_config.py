"""Published configs: every field is checked for its type and range."""

import dataclasses
import json
import math

import jax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personax.networks.blip import BertConfig
from personax.networks.blip2 import QFormerConfig
from personax.networks.clip_text import CLIPTextConfig
from personax.networks.clip_vision import CLIPVisionConfig
from personax.networks.controlnet import ControlNetConfig
from personax.networks.layers import time_embedding
from personax.networks.unet import UNetConfig, init_unet
from personax.networks.vae import VAEConfig
from personax.networks.vit import ViTConfig

CONFIGS = (
    *(UNetConfig, ControlNetConfig, VAEConfig, CLIPTextConfig),
    *(CLIPVisionConfig, ViTConfig, BertConfig, QFormerConfig),
)
FIELDS = [(cls, field.name) for cls in CONFIGS for field in dataclasses.fields(cls)]
# Values of the wrong type or range, and the fields that may have them.
WRONG = {
    "null": (
        None,
        {
            ("UNetConfig", "sample_size"),
            ("UNetConfig", "time_cond_proj_dim"),
            ("VAEConfig", "shift_factor"),
        },
    ),
    "string": ("yes", set()),
    "negative": (-1, {"shift_factor"}),
    "zero": (0, {"freq_shift", "shift_factor"}),
    "empty list": ([], set()),
    "list of null": ([None], set()),
    "list of strings": (["a", "b"], set()),
    "object": ({}, set()),
    "boolean": (True, {"use_linear_projection", "flip_sin_to_cos", "force_upcast"}),
    "fraction": (0.5, {"freq_shift", "shift_factor", "scaling_factor"}),
    "nan": (math.nan, set()),
    "infinity": (math.inf, set()),
    "huge": (10**30, set()),
}


def _json(cls):
    # The Q-Former's default is without words.
    words = {"use_qformer_text_input": True} if cls is QFormerConfig else {}
    return json.loads(json.dumps(dataclasses.asdict(cls()))) | words


@pytest.mark.parametrize("cls", CONFIGS)
def test_a_config_is_read_back_from_its_own_json(cls):
    assert cls.from_json(_json(cls)) == cls()


@pytest.mark.parametrize("name", WRONG)
def test_every_field_of_a_wrong_type_is_one_sentence(name):
    value, _ = WRONG[name]
    refused = 0
    for cls, field in FIELDS:
        try:
            config = cls.from_json({**_json(cls), field: value})
        except ValueError as error:
            message = str(error)
            assert field in message or "block type" in message, (cls, field, message)
            assert "\n" not in message
            assert len(message) < 250
            refused += 1
        else:
            accepted = getattr(config, field)
            assert (type(accepted), accepted) in (
                (type(value), value),
                (float, value),
            ), (cls, field)
            assert _accepts(cls, field, name), (cls, field, value)
    assert refused > len(FIELDS) * 0.8


def _accepts(cls, field, name):
    """Whether a field may have the value; written out, apart from the annotations."""
    texts = {"string", "list of strings"}
    booleans = {"mid_block_add_attention", "use_quant_conv", "use_post_quant_conv"}
    if name == "null":
        return (cls.__name__, field) in WRONG["null"][1]
    if name == "boolean":
        return field in WRONG["boolean"][1] | booleans
    if name == "fraction":
        return field in WRONG["fraction"][1] | {"norm_eps", "layer_norm_eps"}
    return name not in texts and field in WRONG[name][1]


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=6,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FIELDS), ANY_JSON)
def test_any_value_of_any_field_is_read_or_refused_in_one_sentence(chosen, value):
    cls, field = chosen
    try:
        cls.from_json({**_json(cls), field: value})
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (UNetConfig, {"norm_eps": None}, r"norm_eps is null; expected a positive numb"),
        (
            UNetConfig,
            {"flip_sin_to_cos": "yes"},
            r'The UNet\'s flip_sin_to_cos is "yes"; expected true or false\.',
        ),
        (UNetConfig, {"norm_num_groups": 5000}, "norm_num_groups 5000 does not divide"),
        (UNetConfig, {"norm_num_groups": None}, "expected a positive whole number"),
        (UNetConfig, {"attention_head_dim": 0}, "attention_head_dim is 0; expected a"),
        (
            UNetConfig,
            {"attention_head_dim": 7},
            r"attention_head_dim 7 does not divide each of block_out_channels \(320,",
        ),
        (
            UNetConfig,
            {"attention_head_dim": [8, 8, 8, 7]},  # the middle's
            r"attention_head_dim 7 does not divide",
        ),
        (UNetConfig, {"attention_head_dim": [8, 8]}, "a number or 4 of them"),
        (UNetConfig, {"freq_shift": 160}, "freq_shift 160 is not below 160, half"),
        (UNetConfig, {"layers_per_block": 10**6}, "whole number up to 1000"),
        (VAEConfig, {"norm_num_groups": 5}, "norm_num_groups 5 does not divide"),
        (VAEConfig, {"block_out_channels": 7}, "expected a list of positive whole num"),
        (CLIPTextConfig, {"num_attention_heads": 7}, "num_attention_heads 7 does not"),
    ],
)
def test_what_is_wrong_is_said_by_the_name_of_the_option(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls.from_json({**_json(cls), **options})


@pytest.mark.parametrize(
    "options",
    [
        {"act_fn": "swish"},
        {"only_cross_attention": [False, False, False, False]},
        {"dual_cross_attention": False, "num_class_embeds": None},
        {"attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
        {"attention_head_dim": [8, 8, 8, 8], "freq_shift": 1},
        {"sample_size": [64, 96]},
        {"norm_eps": 1},
    ],
)
def test_what_computes_the_same_is_accepted(options):
    UNetConfig.from_json({**_json(UNetConfig), **options})
    with pytest.raises(ValueError, match="only_cross_attention"):
        UNetConfig.from_json({"only_cross_attention": [False, True, False, False]})


def test_an_odd_first_width_has_parameters_and_an_embedding_that_fit():
    options = {"block_out_channels": [33, 66, 66, 66], "norm_num_groups": 3}
    options["attention_head_dim"] = 3
    config = UNetConfig.from_json(options)
    shapes = jax.eval_shape(lambda: init_unet(jax.random.key(0), config))
    width = shapes["time_embedding"]["linear_1"]["kernel"].shape[0]
    assert time_embedding(jax.numpy.ones(2), width).shape == (2, 33)

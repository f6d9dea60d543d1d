"""CLIP's towers and projections against transformers, same random weights, float32."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers

import personax
from personax.core.tree import count, flat
from personax.networks import clip as clip_
from personax.networks import clip_text as text_
from personax.networks import clip_vision as vision_
from personax.networks.clip import (
    CLIPConfig,
    init_clip,
)
from personax.networks.clip_text import (
    CLIPTextConfig,
    init_clip_text,
    pool_text,
)
from personax.networks.clip_vision import (
    CLIPVisionConfig,
    init_clip_vision,
    pool_vision,
)
from personax.networks.compute import Compute
from tests.parity.from_torch import from_torch

TOLERANCE = 1e-4  # max abs error

clip_text = jax.jit(text_.clip_text, static_argnames=("config", "layer", "compute"))
clip_vision, text_features, image_features = (
    jax.jit(function, static_argnames=("config", "compute"))
    for function in (vision_.clip_vision, clip_.text_features, clip_.image_features)
)

TEXT = {
    "quick_gelu": {},
    "gelu": {"hidden_act": "gelu", "num_hidden_layers": 2},
    "legacy_eos": {"eos_token_id": 2, "num_attention_heads": 2},
    "wide": {"hidden_size": 96, "intermediate_size": 160, "num_attention_heads": 3},
    "deep_large_eps": {"num_hidden_layers": 5, "layer_norm_eps": 1e-2},
}

VISION = {
    "quick_gelu": {},
    "gelu_large_patch": {"hidden_act": "gelu", "patch_size": 8, "num_hidden_layers": 1},
    "grey": {"num_channels": 1, "hidden_size": 32, "num_attention_heads": 1},
    "remainder": {"image_size": 18, "patch_size": 4, "intermediate_size": 40},
}


def text_options(name):
    options = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 128}
    options |= {"num_hidden_layers": 3, "num_attention_heads": 4, "eos_token_id": 99}
    return options | {"max_position_embeddings": 16} | TEXT[name]


def vision_options(name):
    options = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "image_size": 16,
        "patch_size": 4,
    }
    return options | {"num_hidden_layers": 3, "num_attention_heads": 4} | VISION[name]


def randomise(module):
    """Every parameter moved: biases start as 0 and norms as the identity."""
    for parameter in module.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return module.eval()


@functools.cache
def text_pair(name):
    torch.manual_seed(0)
    settings = transformers.CLIPTextConfig(**text_options(name))
    theirs = randomise(transformers.CLIPTextModel(settings))
    config = CLIPTextConfig.from_json(settings.to_dict())
    return theirs, config, from_torch(theirs, template(init_clip_text, config))


@functools.cache
def vision_pair(name):
    torch.manual_seed(0)
    settings = transformers.CLIPVisionConfig(**vision_options(name))
    theirs = randomise(transformers.CLIPVisionModel(settings))
    config = CLIPVisionConfig.from_json(settings.to_dict())
    return theirs, config, from_torch(theirs, template(init_clip_vision, config))


def template(init, config):
    return jax.eval_shape(lambda key: init(key, config), jax.random.key(0))


def some_ids(n=16):
    """Two texts that end with 99, the highest id, and are padded with it or with 1."""
    ids = np.random.default_rng(0).integers(3, 99, (2, n)).astype(np.int32)
    ids[0, 5:] = 99
    ids[1, 9], ids[1, 10:] = 99, 1
    return ids


def some_images(config, batch=2):
    shape = (batch, config.image_size, config.image_size, config.num_channels)
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    ("name", "length"), [*((name, 16) for name in TEXT), ("quick_gelu", 11)]
)
def test_text_states_and_feature_are_transformers(name, length):
    theirs, config, params = text_pair(name)
    ids = some_ids(length)
    with torch.no_grad():
        expected = theirs(torch.from_numpy(ids))
    states = clip_text(params, config, ids)
    assert_close(states, expected.last_hidden_state.numpy())
    assert_close(
        pool_text(config, jnp.asarray(ids), states), expected.pooler_output.numpy()
    )


@pytest.mark.parametrize("layer", [-2, -3, -5])
def test_an_earlier_layer_is_diffusers_clip_skip(layer):
    theirs, config, params = text_pair("deep_large_eps")
    ids = some_ids()
    with torch.no_grad():
        hidden = theirs(torch.from_numpy(ids), output_hidden_states=True).hidden_states
        expected = theirs.final_layer_norm(hidden[layer])
    assert_close(clip_text(params, config, ids, layer=layer), expected.numpy())


def test_the_penultimate_layer_is_the_last_of_an_encoder_cut_by_one():
    _, config, params = text_pair("deep_large_eps")
    ids = some_ids()
    cut = CLIPTextConfig.from_json(
        text_options("deep_large_eps") | {"num_hidden_layers": 4}
    )
    np.testing.assert_array_equal(
        clip_text(params, config, ids, layer=-2), clip_text(params, cut, ids)
    )


@pytest.mark.parametrize("layer", [0, 1, -6])
def test_a_layer_that_does_not_exist_is_refused(layer):
    _, config, params = text_pair("deep_large_eps")
    with pytest.raises(ValueError, match=rf"layer {layer} is not one .* to -5"):
        clip_text(params, config, some_ids(), layer=layer)


def test_a_text_longer_than_the_positions_is_refused():
    _, config, params = text_pair("gelu")
    with pytest.raises(ValueError, match="17 tokens, the encoder 16 positions"):
        clip_text(params, config, np.zeros((1, 17), np.int32))


@pytest.mark.parametrize("name", ["quick_gelu", "legacy_eos"])
def test_new_words_are_further_rows_of_the_table(name):
    theirs, config, params = text_pair(name)
    ids = some_ids()
    new = with_rows(params, params_table(params)[7:8])  # a copy of word 7 as word 100
    old, added = ids.copy(), ids.copy()
    old[:, 2], added[:, 2] = 7, 100
    states = clip_text(new, config, added)
    np.testing.assert_array_equal(states, clip_text(params, config, old))
    # The new word has the highest id, yet the feature is still the end of text's.
    pooled = pool_text(config, jnp.asarray(added), states)
    with torch.no_grad():
        assert_close(pooled, theirs(torch.from_numpy(old)).pooler_output.numpy())


def test_an_id_without_a_row_is_not_a_number():
    _, config, params = text_pair("gelu")
    ids = some_ids()
    ids[1, 3] = 100
    states = clip_text(params, config, ids)
    assert jnp.isfinite(states[0]).all()
    assert jnp.isnan(states[1, 3:]).all()


def params_table(params):
    return params["text_model"]["embeddings"]["token_embedding"]["embedding"]


def with_rows(params, rows):
    model = params["text_model"]
    table = {"embedding": jnp.concatenate([params_table(params), rows])}
    embeddings = {**model["embeddings"], "token_embedding": table}
    return {"text_model": {**model, "embeddings": embeddings}}


@pytest.mark.parametrize("name", VISION)
def test_vision_states_and_feature_are_transformers(name):
    theirs, config, params = vision_pair(name)
    images = some_images(config)
    with torch.no_grad():
        expected = theirs(nchw(images))
    states = clip_vision(params, config, images)
    assert_close(states, expected.last_hidden_state.numpy())
    assert_close(pool_vision(params, config, states), expected.pooler_output.numpy())


def test_an_image_of_another_size_is_refused():
    _, config, params = vision_pair("quick_gelu")
    with pytest.raises(ValueError, match="20 x 16, the vision tower takes 16 x 16"):
        clip_vision(params, config, np.zeros((1, 20, 16, 3), np.float32))


@functools.cache
def clip_pair(text, vision):
    torch.manual_seed(0)
    settings = transformers.CLIPConfig(
        text_config=text_options(text),
        vision_config=vision_options(vision),
        projection_dim=48,
    )
    theirs = randomise(transformers.CLIPModel(settings))
    config = CLIPConfig.from_json(settings.to_dict())
    return theirs, config, from_torch(theirs, template(init_clip, config))


@pytest.mark.parametrize(
    "names", [("quick_gelu", "quick_gelu"), ("wide", "grey"), ("gelu", "remainder")]
)
def test_projected_features_are_transformers(names):
    theirs, config, params = clip_pair(*names)
    ids, images = some_ids(), some_images(config.vision_config)
    # A padding mask changes no feature: what follows the end of text never reaches it.
    mask = torch.from_numpy(np.arange(16)[None] <= np.array([[5], [9]])).int()
    with torch.no_grad():
        text = theirs.get_text_features(torch.from_numpy(ids), attention_mask=mask)
        image = theirs.get_image_features(nchw(images))
    assert_close(text_features(params, config, ids), text.pooler_output.numpy())
    assert_close(image_features(params, config, images), image.pooler_output.numpy())
    assert_close(params["logit_scale"], theirs.logit_scale.detach().numpy())


def test_half_precision_computes_in_half_and_returns_float32():
    _, config, params = clip_pair("quick_gelu", "quick_gelu")
    ids, images = some_ids(), some_images(config.vision_config)
    for function, x in ((text_features, ids), (image_features, images)):
        exact = function(params, config, x)
        half = function(params, config, x, compute=Compute("bfloat16"))
        assert half.dtype == jnp.float32
        assert 0 < abs(half - exact).max() < 0.1


def test_remat_changes_no_gradient():
    _, config, params = text_pair("gelu")
    ids = some_ids()

    def loss(params, compute):
        return jnp.square(clip_text(params, config, ids, compute=compute)).sum()

    plain, remat = (
        flat(jax.jit(jax.grad(loss), static_argnums=1)(params, Compute(remat=remat)))
        for remat in ("none", "layer")
    )
    for path, gradient in plain.items():
        np.testing.assert_allclose(remat[path], gradient, rtol=1e-3, atol=1e-4)


def test_init_makes_what_eval_shape_says():
    _, config, params = clip_pair("quick_gelu", "quick_gelu")
    made = init_clip(jax.random.key(0), config)
    assert {k: v.shape for k, v in flat(made).items()} == {
        k: v.shape for k, v in flat(params).items()
    }
    assert jnp.isfinite(text_features(made, config, some_ids())).all()


def test_the_defaults_are_sd15_text_encoder_and_vit_l_14():
    assert count(template(init_clip_text, CLIPTextConfig())) == 123_060_480
    assert len(flat(template(init_clip_text, CLIPTextConfig()))) == 196
    assert count(template(init_clip, CLIPConfig())) == 427_616_513


def test_the_published_sd15_config_is_the_default():
    published = {
        "_name_or_path": "openai/clip-vit-large-patch14",
        "architectures": ["CLIPTextModel"],
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "dropout": 0.0,
        "eos_token_id": 2,
        "hidden_act": "quick_gelu",
        "hidden_size": 768,
        "initializer_factor": 1.0,
        "initializer_range": 0.02,
        "intermediate_size": 3072,
        "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77,
        "model_type": "clip_text_model",
        "num_attention_heads": 12,
        "num_hidden_layers": 12,
        "pad_token_id": 1,
        "projection_dim": 768,
        "torch_dtype": "float32",
        "transformers_version": "4.22.0.dev0",
        "vocab_size": 49408,
    }
    assert CLIPTextConfig.from_json(published) == CLIPTextConfig()


def test_what_a_file_leaves_out_is_what_transformers_takes():
    """Each field of an empty config.json, against transformers' own."""
    theirs = transformers.CLIPConfig()
    ours = CLIPConfig.from_json({})
    assert ours.projection_dim == theirs.projection_dim
    for tower in ("text_config", "vision_config"):
        for field, value in vars(getattr(ours, tower)).items():
            assert value == getattr(getattr(theirs, tower), field), field


def test_the_older_form_of_a_tower_replaces_the_other():
    values = {
        "text_config": {"hidden_size": 64, "hidden_act": "gelu"},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
    }
    ours = CLIPConfig.from_json(values).text_config
    theirs = transformers.CLIPConfig(**values).text_config
    assert ours.hidden_size == theirs.hidden_size == 768
    assert ours.hidden_act == theirs.hidden_act == "quick_gelu"


def test_the_embedded_clip_is_transformers():
    folder = Path(personax.__file__).parent / "assets/emoji"
    theirs = transformers.CLIPModel.from_pretrained(folder / "clip").float().eval()
    config = CLIPConfig.from_json(json.loads((folder / "clip/config.json").read_text()))
    params = from_torch(theirs, template(init_clip, config))
    ids = np.array([[1210, 7, 300, 1211] + [1211] * 28], np.int32)
    images = some_images(config.vision_config)
    with torch.no_grad():
        text = theirs.get_text_features(torch.from_numpy(ids)).pooler_output
        image = theirs.get_image_features(nchw(images)).pooler_output
    assert_close(text_features(params, config, ids), text.numpy())
    assert_close(image_features(params, config, images), image.numpy())
    alone = json.loads((folder / "pipeline/text_encoder/config.json").read_text())
    assert CLIPTextConfig.from_json(alone) == config.text_config


@pytest.mark.parametrize(
    "option",
    [{"attention_dropout": 0.1}, {"pruned_heads": {"0": [1]}}, {"new_option": 1}],
)
@pytest.mark.parametrize("reader", [CLIPTextConfig, CLIPVisionConfig])
def test_an_option_that_changes_the_numbers_is_refused_by_name(reader, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"does not compute {name}="):
        reader.from_json(option)


def test_an_unknown_activation_is_refused():
    with pytest.raises(ValueError, match=r"'gelu_new' is not one of .*quick_gelu"):
        CLIPTextConfig.from_json({"hidden_act": "gelu_new"})


def test_from_torch_names_what_is_missing_and_what_is_extra():
    theirs, config, _ = text_pair("gelu")
    state = theirs.state_dict()
    state["encoder.extra"] = state.pop("encoder.layers.0.mlp.fc1.bias")
    with pytest.raises(
        KeyError, match=r"missing .*0.mlp.fc1.bias.* extra .*encoder.extra"
    ):
        from_torch(state, template(init_clip_text, config))

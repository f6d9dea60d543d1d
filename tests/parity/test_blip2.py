"""BLIP-2's scores against transformers, through the files that it writes; float32."""

import functools

import jax
import jax.numpy as jnp
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from personax.core.tree import count
from personax.loading.blip2 import load_blip2
from personax.metrics import blip as judge
from personax.networks import blip2 as network
from personax.networks.blip2 import Blip2Config, QFormerConfig, init_blip2
from personax.networks.compute import Compute
from tests.parity.test_blip import (
    PROMPTS,
    TOLERANCE,
    assert_close,
    copy,
    nhwc,
    randomised,
    some_pixels,
    tokenizer,
)

image_features = jax.jit(network.image_features, static_argnames=("config", "compute"))
text_features = jax.jit(network.text_features, static_argnames="config")

QFORMER = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 48}
QFORMER |= {"num_hidden_layers": 3, "num_attention_heads": 4}
QFORMER |= {"max_position_embeddings": 24, "use_qformer_text_input": True}
VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
VISION |= {"num_attention_heads": 3, "image_size": 28, "patch_size": 7}

CONFIGS = {
    "plain": {},
    # As the files on the Hub are since 2024: the text begins with tokens for the image.
    "image_token": {
        "image_token_index": 16,
        "num_query_tokens": 3,
        "qformer_config": QFORMER | {"cross_attention_frequency": 1},
        "vision_config": VISION | {"layer_norm_eps": 1e-2},
        "image_text_hidden_size": 24,
    },
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """name -> (transformers' model, its processor, the directory that they wrote)."""

    @functools.cache
    def save(name):
        torch.manual_seed(0)
        folder = tmp_path_factory.mktemp(name)
        language = {"model_type": "opt", "num_hidden_layers": 1, "hidden_size": 16}
        options = {"qformer_config": QFORMER, "vision_config": VISION}
        options |= {"text_config": language, "num_query_tokens": 5} | CONFIGS[name]
        settings = transformers.Blip2Config(**options)
        theirs = transformers.Blip2ForImageTextRetrieval(settings)
        randomised(theirs).query_tokens.data *= 5  # apart from one another
        images = transformers.BlipImageProcessorPil(size={"height": 28, "width": 28})
        processor = transformers.Blip2Processor(
            images,
            tokenizer(folder),
            settings.num_query_tokens if settings.image_token_index else None,
        )
        theirs.save_pretrained(folder / "blip2")
        processor.save_pretrained(folder / "blip2")
        return theirs, processor, folder / "blip2"

    return save


def inputs(processor):
    """What transformers makes of the pictures and prompts, padded to the longest."""
    return processor(
        images=some_pixels(), text=PROMPTS, padding=True, return_tensors="pt"
    )


def test_projected_features_are_transformers(saved):
    theirs, processor, directory = saved("plain")
    blip2, x = load_blip2(directory), inputs(processor)
    ids, mask = x["input_ids"].int().numpy(), x["attention_mask"].bool().numpy()
    with torch.no_grad():
        expected = theirs(**x)
    assert mask.sum(1).min() < mask.shape[1]  # there is padding
    images = image_features(blip2.params, blip2.config, nhwc(x))
    assert images.shape == (4, 5, 256)
    assert_close(judge.unit(images), expected.image_embeds)
    texts = text_features(blip2.params, blip2.config, ids, mask)
    assert_close(judge.unit(texts), expected.text_embeds)


@pytest.mark.parametrize("name", CONFIGS)
def test_itc_is_the_largest_cosine_of_transformers(saved, name):
    theirs, processor, directory = saved(name)
    with torch.no_grad():
        expected = theirs(**inputs(processor)).logits_per_image.diagonal()
    ours = judge.itc(load_blip2(directory), some_pixels(), PROMPTS)
    assert expected.std() > 0.01
    assert_close(ours, expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_itm_is_the_probability_of_transformers_head(saved, name):
    theirs, processor, directory = saved(name)
    with torch.no_grad():
        out = theirs(**inputs(processor), use_image_text_matching_head=True)
    expected = out.logits_per_image.softmax(1)[:, 1]
    ours = judge.itm(load_blip2(directory), some_pixels(), PROMPTS)
    assert expected.std() > 0.01
    assert_close(ours, expected)


def test_half_precision_is_the_vision_towers_alone(saved):
    theirs, processor, directory = saved("plain")
    blip2, x = load_blip2(directory), inputs(processor)
    with torch.no_grad():
        exact = theirs(**x).image_embeds.numpy()
    half = image_features(
        blip2.params, blip2.config, nhwc(x), compute=Compute("bfloat16")
    )
    assert half.dtype == jnp.float32
    assert TOLERANCE < abs(judge.unit(half) - exact).max() < 0.1


def test_what_is_missing_is_said_in_one_sentence(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; a BLIP-2 as"):
        load_blip2(tmp_path / "nowhere")
    copy(saved("plain")[2], tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors; it has"):
        load_blip2(tmp_path)


def test_tensors_that_do_not_fit_are_named_as_in_the_file(saved, tmp_path):
    copy(saved("plain")[2], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    cross = "qformer.encoder.layer.2.crossattention.attention.key.weight"
    assert "qformer.encoder.layer.1.crossattention.attention.key.weight" not in tensors
    tensors["language_model.bias"] = tensors.pop(cross)
    tensors["query_tokens"] = tensors["query_tokens"][:, :4].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit") as error:
        load_blip2(tmp_path)
    for part in (
        f"1 missing ({cross})",
        "1 extra (language_model.bias)",
        "1 misshapen (query_tokens (1, 4, 32) instead of (1, 5, 32))",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize(
    "option",
    [
        {"use_qformer_text_input": False},
        {"hidden_act": "relu", "use_qformer_text_input": True},
        {"position_embedding_type": "relative_key", "use_qformer_text_input": True},
    ],
)
def test_an_option_that_changes_the_numbers_is_refused(option):
    name = next(iter(option))
    with pytest.raises(ValueError, match=f"Blip2QFormerModel does not compute {name}="):
        Blip2Config.from_json({"qformer_config": option})


def test_a_q_former_without_words_is_refused_where_the_file_is_silent():
    with pytest.raises(ValueError, match="not compute use_qformer_text_input=False"):
        Blip2Config.from_json({})


def test_what_a_file_leaves_out_is_what_transformers_takes():
    theirs = transformers.Blip2Config()
    ours = Blip2Config.from_json({"qformer_config": {"use_qformer_text_input": True}})
    assert ours.image_text_hidden_size == theirs.image_text_hidden_size
    assert ours.num_query_tokens == theirs.num_query_tokens
    for part in ("qformer_config", "vision_config"):
        for field, value in vars(getattr(ours, part)).items():
            if field != "num_channels":  # always 3 there
                assert value == getattr(getattr(theirs, part), field), field


def test_the_defaults_are_as_large_as_transformers_with_vit_g():
    config = Blip2Config()
    options = {"use_qformer_text_input": True, **vars(QFormerConfig())}
    with torch.device("meta"):
        theirs = transformers.Blip2ForImageTextRetrieval(
            transformers.Blip2Config(qformer_config=options)
        )
    shapes = jax.eval_shape(lambda: init_blip2(jax.random.key(0), config))
    assert count(shapes) == sum(p.numel() for p in theirs.parameters())

"""BLIP's scores against transformers, through the files that it writes; float32."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.numpy import load_file, save_file

from personax.core.tree import count
from personax.loading.blip import load_blip
from personax.metrics import blip as judge
from personax.networks import blip as network
from personax.networks.blip import BertConfig, BlipConfig, init_blip
from personax.networks.compute import Compute

TOLERANCE = 2e-5  # max abs error of features, cosines and probabilities
image_features, text_features, match_logits = (
    jax.jit(function, static_argnames=("config", "compute"))
    for function in (
        network.image_features,
        network.text_features,
        network.match_logits,
    )
)

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "photo", "of", "dog"]
WORDS += ["cat", "##s", "red", ",", "in", "the", "snow"]
PROMPTS = ["a photo of a dog", "Cats, in the snow", "red", "a red dog in the jungle"]


def tokenizer(folder):
    """transformers' own, of a few words."""
    (folder / "words.txt").write_text("\n".join(WORDS))
    return transformers.BertTokenizer(vocab=str(folder / "words.txt"))


def randomised(module):
    """Every parameter moved: biases start as 0 and norms as the identity."""
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    return module.eval()


TEXT = {"vocab_size": 20, "hidden_size": 32, "intermediate_size": 48}
TEXT |= {"num_hidden_layers": 2, "num_attention_heads": 4}
TEXT |= {"max_position_embeddings": 24, "bos_token_id": 1, "sep_token_id": 3}
VISION = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
VISION |= {"num_attention_heads": 3, "image_size": 32, "patch_size": 8}

CONFIGS = {
    "plain": {},
    "other": {
        "text_config": TEXT | {"num_hidden_layers": 1, "layer_norm_eps": 1e-3},
        "vision_config": VISION | {"num_hidden_layers": 1, "layer_norm_eps": 1e-2},
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
        options = {"text_config": TEXT, "vision_config": VISION} | CONFIGS[name]
        settings = transformers.BlipConfig(**options)
        theirs = randomised(transformers.BlipForImageTextRetrieval(settings))
        images = transformers.BlipImageProcessorPil(size={"height": 32, "width": 32})
        processor = transformers.BlipProcessor(images, tokenizer(folder))
        theirs.save_pretrained(folder / "blip")
        processor.save_pretrained(folder / "blip")
        return theirs, processor, folder / "blip"

    return save


def some_pixels():
    rng = np.random.default_rng(1)
    shapes = [(32, 32, 3), (50, 40, 3), (20, 90, 3), (64, 64, 3)]
    return [rng.integers(0, 256, shape, np.uint8) for shape in shapes]


def inputs(processor):
    """What transformers makes of the pictures and prompts, padded to the longest."""
    return processor(
        images=some_pixels(), text=PROMPTS, padding=True, return_tensors="pt"
    )


def nhwc(inputs):
    return jnp.asarray(inputs["pixel_values"].numpy().transpose(0, 2, 3, 1))


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=0, atol=TOLERANCE)


def test_projected_features_are_transformers(saved):
    theirs, processor, directory = saved("plain")
    blip, x = load_blip(directory), inputs(processor)
    ids, mask = x["input_ids"].int(), x["attention_mask"]
    with torch.no_grad():
        states = theirs.vision_model(x["pixel_values"]).last_hidden_state
        pictures = theirs.vision_proj(states[:, 0])
        words = theirs.text_encoder(input_ids=ids, attention_mask=mask)
        texts = theirs.text_proj(words.last_hidden_state[:, 0])
    assert mask.sum(1).unique().numel() > 2  # texts of several lengths
    assert_close(image_features(blip.params, blip.config, nhwc(x)), pictures)
    ours = text_features(blip.params, blip.config, ids.numpy(), mask.bool().numpy())
    assert_close(ours, texts)


@pytest.mark.parametrize("name", CONFIGS)
def test_itc_is_the_cosine_of_transformers(saved, name):
    theirs, processor, directory = saved(name)
    with torch.no_grad():
        expected = theirs(**inputs(processor), use_itm_head=False).itm_score.diagonal()
    ours = judge.itc(load_blip(directory), some_pixels(), PROMPTS)
    assert expected.std() > 0.01
    assert_close(ours, expected)


@pytest.mark.parametrize("name", CONFIGS)
def test_itm_is_the_probability_of_transformers_head(saved, name):
    theirs, processor, directory = saved(name)
    with torch.no_grad():
        logits = theirs(**inputs(processor), use_itm_head=True).itm_score
    ours = judge.itm(load_blip(directory), some_pixels(), PROMPTS)
    assert logits.softmax(1)[:, 1].std() > 0.01
    assert_close(ours, logits.softmax(1)[:, 1])


def test_some_at_a_time_score_as_all_at_once(saved, monkeypatch):
    blip, pixels = load_blip(saved("other")[2]), some_pixels()
    whole = judge.itc(blip, pixels, PROMPTS)
    monkeypatch.setattr(judge, "_BATCH", 3)
    np.testing.assert_allclose(judge.itc(blip, pixels, PROMPTS), whole, atol=1e-6)


def test_half_precision_computes_in_half_and_returns_float32(saved):
    theirs, processor, directory = saved("other")
    blip, x = load_blip(directory), inputs(processor)
    with torch.no_grad():
        exact = theirs(**x, use_itm_head=True).itm_score.numpy()
    ids, mask = x["input_ids"].int().numpy(), x["attention_mask"].bool().numpy()
    half = match_logits(
        blip.params, blip.config, nhwc(x), ids, mask, compute=Compute("bfloat16")
    )
    assert half.dtype == jnp.float32
    assert TOLERANCE < abs(half - exact).max() < 0.1


def test_pictures_are_prepared_as_transformers_does(saved):
    """To float32's precision: a grey level is 1 / 255 / 0.27 = 0.015."""
    _, processor, directory = saved("plain")
    expected = nhwc(inputs(processor))
    ours = judge.prepared(load_blip(directory), some_pixels())
    np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-5)


def test_the_preprocessors_scaling_is_read(saved, tmp_path):
    _, processor, directory = saved("plain")
    copy(directory, tmp_path)
    (tmp_path / "processor_config.json").unlink()
    blip = load_blip(tmp_path)
    assert blip.mean == tuple(processor.image_processor.image_mean)
    assert blip.std == tuple(processor.image_processor.image_std)
    other = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    images = transformers.BlipImageProcessorPil(**other)
    transformers.BlipProcessor(images, processor.tokenizer).save_pretrained(tmp_path)
    assert load_blip(tmp_path).mean == (0.1, 0.2, 0.3)
    (tmp_path / "processor_config.json").unlink()
    images.save_pretrained(tmp_path)
    assert load_blip(tmp_path).std == (0.4, 0.5, 0.6)


def copy(source, target):
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def test_prompts_that_cannot_be_read_are_refused(saved):
    blip, pixels = load_blip(saved("plain")[2]), some_pixels()
    with pytest.raises(
        ValueError, match="has 27 tokens; the text encoder has 24 positions"
    ):
        judge.itc(blip, pixels[:1], ["a " * 25])
    few = BertConfig(vocab_size=15)
    with pytest.raises(
        ValueError, match=r"'Cats, in the snow' has a word with id 15, "
    ):
        judge.tokens(blip.tokenizer, few, PROMPTS)


def test_what_is_missing_is_said_in_one_sentence(saved, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; a BLIP as"):
        load_blip(tmp_path / "nowhere")
    copy(saved("plain")[2], tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError, match=r"has no model\.safetensors; it has"):
        load_blip(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"expected tokenizer.json or vocab"):
        load_blip(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json; .* it has"):
        load_blip(tmp_path)


def test_a_vocabulary_file_will_do_for_a_tokenizer(saved, tmp_path):
    _, _, directory = saved("plain")
    copy(directory, tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    texts = BertConfig(vocab_size=20)
    ours, same = (
        judge.tokens(load_blip(folder).tokenizer, texts, PROMPTS)
        for folder in (tmp_path, directory)
    )
    np.testing.assert_array_equal(ours[0], same[0])


def test_tensors_that_do_not_fit_are_named_as_in_the_file(saved, tmp_path):
    copy(saved("plain")[2], tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    fused = "vision_model.encoder.layers.1.self_attn.qkv.bias"
    tensors[fused] = tensors[fused][:-1].copy()
    cross = "text_encoder.encoder.layer.0.crossattention.self.query.weight"
    del tensors[cross]
    # A buffer that older files have.
    tensors["text_encoder.embeddings.position_ids"] = np.arange(24)[None]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit") as error:
        load_blip(tmp_path)
    assert f"1 missing ({cross})" in str(error.value)
    assert f"1 misshapen ({fused}[v] (47,) instead of (48,))" in str(error.value)
    assert "extra" not in str(error.value)


@pytest.mark.parametrize(
    ("part", "option"),
    [
        ("text_config", {"hidden_act": "relu"}),
        ("text_config", {"is_decoder": False}),
        ("vision_config", {"qkv_bias": False}),
    ],
)
def test_an_option_that_changes_the_numbers_is_refused(part, option):
    (name,) = option
    with pytest.raises(ValueError, match=f"does not compute {name}="):
        BlipConfig.from_json({part: option})


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_attention_heads 5 does not divide"):
        BertConfig(num_attention_heads=5)


def test_what_a_file_leaves_out_is_what_transformers_takes():
    theirs, ours = transformers.BlipConfig(), BlipConfig.from_json({})
    assert ours.image_text_hidden_size == theirs.image_text_hidden_size
    for tower in ("text_config", "vision_config"):
        for field, value in vars(getattr(ours, tower)).items():
            if field != "num_channels":  # always 3 there
                assert value == getattr(getattr(theirs, tower), field), field


def test_the_defaults_are_as_large_as_transformers_with_vit_l():
    config = BlipConfig()
    options = {
        name: dict(vars(getattr(config, name)))
        for name in ("text_config", "vision_config")
    }
    with torch.device("meta"):
        theirs = transformers.BlipForImageTextRetrieval(
            transformers.BlipConfig(**options)
        )
    shapes = jax.eval_shape(lambda: init_blip(jax.random.key(0), config))
    assert count(shapes) == sum(p.numel() for p in theirs.parameters())
    assert count(shapes) == 446_128_642  # the paper's 446 M


def test_a_published_config_of_older_transformers_is_read(saved):
    """What transformers 4.26 wrote into each part: options of generation."""
    generation = {"temperature": 1.0, "top_k": 50, "num_beams": 1, "use_cache": True}
    generation |= {"pruned_heads": {}, "sep_token_id": 102, "is_decoder": True}
    generation |= {"hidden_dropout_prob": 0.0, "encoder_hidden_size": 1024}
    config = BlipConfig.from_json(
        {
            "text_config": TEXT | generation,
            "vision_config": VISION | {"dropout": 0.0, "attention_dropout": 0.0},
            "logit_scale_init_value": 2.6592,
            "image_text_hidden_size": 256,
        }
    )
    stated = json.loads((saved("plain")[2] / "config.json").read_text())
    assert config == BlipConfig.from_json(stated)

"""ViT and DINO against transformers: states, files, preprocessing; float32."""

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
from personax.loading.dino import load_dino
from personax.metrics import dino as judge
from personax.networks import vit as vit_
from personax.networks.compute import Compute
from personax.networks.vit import ViTConfig

TOLERANCE = 1e-4  # max abs error of states and features
vit = jax.jit(vit_.vit, static_argnames=("config", "compute"))

CONFIGS = {
    "plain": {},
    "wide_heads": {"num_attention_heads": 2, "intermediate_size": 96},
    "remainder": {"image_size": 34, "patch_size": 8, "layer_norm_eps": 1e-3},
    "quick": {"hidden_act": "quick_gelu", "num_hidden_layers": 1},
}


def options(name):
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "image_size": 28, "patch_size": 7}
    return sizes | CONFIGS[name]


def randomised(module):
    """Every parameter moved: biases start as 0 and norms as the identity."""
    for parameter in module.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module.eval()


def made(**settings):
    torch.manual_seed(0)
    return randomised(transformers.ViTModel(transformers.ViTConfig(**settings)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """name -> (transformers' model, the directory that it wrote)."""

    @functools.cache
    def save(name):
        theirs = made(**options(name))
        directory = tmp_path_factory.mktemp(name)
        theirs.save_pretrained(directory)
        return theirs, directory

    return save


def some_images(side, batch=2):
    return np.random.default_rng(0).standard_normal((batch, side, side, 3), np.float32)


def some_pixels(*shapes):
    rng = np.random.default_rng(1)
    return [rng.integers(0, 256, (*shape, 3), np.uint8) for shape in shapes]


def states(theirs, images):
    with torch.no_grad():
        x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(images, -1, 1)))
        return theirs(x).last_hidden_state.numpy()


@pytest.mark.parametrize("name", CONFIGS)
def test_states_are_transformers(saved, name):
    theirs, directory = saved(name)
    dino = load_dino(directory)
    images = some_images(dino.config.image_size)
    ours = vit(dino.params, dino.config, images)
    np.testing.assert_allclose(ours, states(theirs, images), rtol=0, atol=TOLERANCE)


def test_half_precision_computes_in_half_and_returns_float32(saved):
    dino = load_dino(saved("plain")[1])
    images = some_images(28)
    exact = vit(dino.params, dino.config, images)
    half = vit(dino.params, dino.config, images, compute=Compute("bfloat16"))
    assert half.dtype == jnp.float32
    assert 0 < abs(half - exact).max() < 0.2


# As vision_transformer.py of DINO's release names what transformers' files hold.
OUTER = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
INNER = {
    "attention.output.dense": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}


def authors_tensors(directory, layers):
    """The tensors that transformers wrote, as the authors name and fuse them."""
    file = load_file(directory / "model.safetensors")
    named = {theirs: file[name] for name, theirs in OUTER.items()}
    for i in range(layers):
        for leaf in ("weight", "bias"):
            old, block = f"encoder.layer.{i}", f"blocks.{i}"
            for name, theirs in INNER.items():
                named[f"{block}.{theirs}.{leaf}"] = file[f"{old}.{name}.{leaf}"]
            three = (
                file[f"{old}.attention.attention.{part}.{leaf}"]
                for part in ("query", "key", "value")
            )
            named[f"{block}.attn.qkv.{leaf}"] = np.concatenate(list(three))
    return named


def test_the_authors_names_are_read_from_a_directory(saved, tmp_path):
    _, directory = saved("plain")
    save_file(authors_tensors(directory, 2), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    ours, same = load_dino(tmp_path), load_dino(directory)
    jax.tree.map(np.testing.assert_array_equal, ours.params, same.params)


def test_the_authors_file_is_vit_s_16(tmp_path):
    """At its true size: dino_deitsmall16_pretrain.pth, with random numbers."""
    sizes = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 6}
    theirs = made(**sizes, layer_norm_eps=1e-6)
    theirs.save_pretrained(tmp_path)
    tensors = authors_tensors(tmp_path, 12)
    path = tmp_path / "dino_deitsmall16_pretrain.pth"
    torch.save({name: torch.from_numpy(x) for name, x in tensors.items()}, path)
    with pytest.raises(ValueError, match=r"is a pickle.*allow_pickle=True"):
        load_dino(path)
    dino = load_dino(path, allow_pickle=True)
    assert count(dino.params) == 21_665_664
    images = some_images(224, batch=1)
    ours = vit(dino.params, dino.config, images)
    np.testing.assert_allclose(ours, states(theirs, images), rtol=0, atol=TOLERANCE)


def test_pickled_weights_are_read_when_asked_for(saved, tmp_path):
    _, directory = saved("plain")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    tensors = load_file(directory / "model.safetensors")
    torch.save(
        {k: torch.from_numpy(v) for k, v in tensors.items()},
        tmp_path / "pytorch_model.bin",
    )
    with pytest.raises(ValueError, match=r"only pickled weights.*allow_pickle=True"):
        load_dino(tmp_path)
    ours, same = load_dino(tmp_path, allow_pickle=True), load_dino(directory)
    jax.tree.map(np.testing.assert_array_equal, ours.params, same.params)


def test_what_is_missing_is_said_in_one_sentence(saved, tmp_path):
    _, directory = saved("plain")
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; a DINO as"):
        load_dino(tmp_path / "nowhere")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match=r"has no config\.json; .* has model\.safetensors\.$"
    ):
        load_dino(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    with pytest.raises(
        FileNotFoundError, match=r"has no model\.safetensors; it has config\.json\.$"
    ):
        load_dino(tmp_path)


def test_tensors_that_do_not_fit_are_named_as_in_the_file(saved, tmp_path):
    _, directory = saved("plain")
    tensors = load_file(directory / "model.safetensors")
    (tmp_path / "config.json").write_text((directory / "config.json").read_text())
    query = "encoder.layer.1.attention.attention.query.weight"
    tensors["head.weight"] = tensors.pop(query)
    tensors["layernorm.bias"] = tensors["layernorm.bias"][:-1].copy()
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit") as error:
        load_dino(tmp_path)
    for part in (
        f"1 missing ({query})",
        "1 extra (head.weight)",
        "1 misshapen (layernorm.bias (47,) instead of (48,))",
    ):
        assert part in str(error.value)


def test_an_option_that_changes_the_numbers_is_refused(saved, tmp_path):
    _, directory = saved("plain")
    values = json.loads((directory / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | {"qkv_bias": False}))
    with pytest.raises(ValueError, match="ViTModel does not compute qkv_bias=False"):
        load_dino(tmp_path)


def test_what_a_file_leaves_out_is_what_transformers_takes():
    theirs = transformers.ViTConfig()
    for field, value in vars(ViTConfig.from_json({})).items():
        assert value == getattr(theirs, field), field


def test_an_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"32 x 224, .* takes 224 x 224"):
        vit({}, ViTConfig(), jnp.zeros((1, 32, 224, 3)))


SHAPES = [(28, 28), (224, 224), (300, 200), (97, 413), (512, 512)]


@pytest.mark.parametrize("side", [28, 224])
def test_pictures_are_prepared_as_transformers_resizes_and_crops(saved, side):
    """Shorter side 256 of 224, bicubic, centre: to float32's precision, so far below
    the one grey level (1 / 255 / 0.229 = 0.017) that would be too much."""
    theirs = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": side * 8 // 7},
        crop_size={"height": side, "width": side},
        resample=3,
        image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )
    pixels = some_pixels(*SHAPES)
    expected = theirs(pixels, return_tensors="np")["pixel_values"]
    dino = load_dino(saved("plain")[1])
    dino = dino.replace(config=ViTConfig(image_size=side))
    ours = judge.prepared(dino, pixels)
    np.testing.assert_allclose(ours, np.moveaxis(expected, 1, -1), rtol=0, atol=1e-5)


def test_the_crop_rounds_half_a_pixel_as_torchvision_does(saved):
    """To the even one: 35 columns leave 3.5 on the left of 28, which is column 4."""
    dino = load_dino(saved("plain")[1])
    columns = np.broadcast_to(np.arange(35, dtype=np.uint8)[None, :, None], (32, 35, 3))
    seen = judge.prepared(dino, [columns])[0] * dino.std + dino.mean
    np.testing.assert_allclose(255 * seen[0, [0, -1], 0], [4, 31], atol=1e-3)


def test_features_are_the_unit_class_states(saved, monkeypatch):
    monkeypatch.setattr(judge, "_BATCH", 3)
    theirs, directory = saved("plain")
    dino, pixels = load_dino(directory), some_pixels(*SHAPES)
    first = states(theirs, judge.prepared(dino, pixels))[:, 0]
    expected = first / np.linalg.norm(first, axis=1, keepdims=True)
    ours = judge.of_images(dino, pixels)
    np.testing.assert_allclose(ours, expected, rtol=0, atol=TOLERANCE)


def test_the_preprocessors_scaling_is_read(saved, tmp_path):
    _, directory = saved("plain")
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((directory / name).read_bytes())
    assert load_dino(tmp_path).mean == (0.485, 0.456, 0.406)
    transformers.ViTImageProcessorPil(
        image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]
    ).save_pretrained(tmp_path)
    dino = load_dino(tmp_path)
    assert (dino.mean, dino.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))

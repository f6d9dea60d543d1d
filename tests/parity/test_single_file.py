"""Single files of Stable Diffusion 2.x, as diffusers reads them; published configs."""

import diffusers
import jax
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from personax.core.tree import flat
from personax.loading import embedded, load_base, published
from personax.loading.base import _CLASSES
from personax.loading.files import read_json
from personax.loading.ldm import ldm_names
from personax.loading.names import torch_name, torch_shape
from personax.networks.clip_text import clip_text
from personax.networks.tokenizer import load_tokenizer, tokenize
from personax.networks.unet import UNetConfig
from personax.networks.vae import VAEConfig
from tests.loading import make
from tests.loading.test_published import STRINGS
from tests.small_configs import PIPELINE, SCHEDULER

TOLERANCE = 1e-5  # of the text encoder's states; tensors must be equal

UNET = {
    **{k: v for k, v in PIPELINE["unet"].items() if not k.startswith("_")},
    "use_linear_projection": True,
    "attention_head_dim": [2, 4],
}
VAE = {k: v for k, v in PIPELINE["vae"].items() if not k.startswith("_")}
# diffusers drops layer 23 of the file by its number.
TEXT = {
    **{k: v for k, v in PIPELINE["text_encoder"].items() if k != "model_type"},
    "num_hidden_layers": 23,
    "hidden_act": "gelu",
}


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(**TEXT)).eval()
    return {
        "unet": diffusers.UNet2DConditionModel(**UNET),
        "vae": diffusers.AutoencoderKL(**VAE),
        "text_encoder": text,
    }


@pytest.fixture(scope="module")
def files(models, tmp_path_factory):
    """(a directory of configs and tokenizer, a file with OpenCLIP's names)."""
    folder = tmp_path_factory.mktemp("sd2")
    diffusers.StableDiffusionPipeline(
        **models,
        tokenizer=transformers.CLIPTokenizer.from_pretrained(
            embedded("pipeline") / "tokenizer"
        ),
        scheduler=diffusers.DDIMScheduler(
            **{k: v for k, v in SCHEDULER.items() if k != "_class_name"}
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "configs")
    tensors = _open_clip(models["text_encoder"].state_dict())
    for part, config in (
        ("unet", UNetConfig.from_json(UNET)),
        ("vae", VAEConfig.from_json(VAE)),
    ):
        state = models[part].state_dict()
        for path in make.shapes(part, config):
            tensor = state[torch_name(path)]
            name = ldm_names(part, [path], config)[path]
            if ".attn_1." in name and tensor.ndim == 2:
                tensor = tensor[:, :, None, None]
            tensors[name] = tensor.contiguous()
    save_file(tensors, folder / "v2.safetensors")
    return folder / "configs", folder / "v2.safetensors"


def _open_clip(state):
    """The tensors under OpenCLIP's names, with a 24th layer and what it also has."""
    state = {name.removeprefix("text_model."): t for name, t in state.items()}
    generator = torch.Generator().manual_seed(1)
    named = {
        "positional_embedding": state["embeddings.position_embedding.weight"],
        "token_embedding.weight": state["embeddings.token_embedding.weight"],
        "ln_final.weight": state["final_layer_norm.weight"],
        "ln_final.bias": state["final_layer_norm.bias"],
        "text_projection": torch.randn(16, 16, generator=generator),
        "logit_scale": torch.tensor(4.6),
    }
    for i in range(24):
        layer = f"encoder.layers.{min(i, 22)}"
        block = f"transformer.resblocks.{i}"
        for kind in ("weight", "bias"):
            fused = [state[f"{layer}.self_attn.{x}_proj.{kind}"] for x in "qkv"]
            named[f"{block}.attn.in_proj_{kind}"] = torch.cat(fused)
            for theirs, ours in (
                ("attn.out_proj", "self_attn.out_proj"),
                *(("ln_1", "layer_norm1"), ("ln_2", "layer_norm2")),
                *(("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")),
            ):
                named[f"{block}.{theirs}.{kind}"] = state[f"{layer}.{ours}.{kind}"]
    return {f"cond_stage_model.model.{k}": t.clone() for k, t in named.items()}


@pytest.fixture(scope="module")
def base(files):
    configs, path = files
    return load_base(path, config=configs)


def test_a_file_of_2_x_is_what_diffusers_reads_from_it(files, base):
    configs, path = files
    pipeline = diffusers.StableDiffusionPipeline.from_single_file(
        str(path), config=str(configs), local_files_only=True
    )
    for part in ("unet", "vae", "text_encoder"):
        state = {
            name.removeprefix("text_model."): tensor.numpy()
            for name, tensor in getattr(pipeline, part).state_dict().items()
            if "position_ids" not in name
        }
        leaves = flat(base.params[part])
        assert len(leaves) == len(state)
        for path, leaf in leaves.items():
            tensor = state[torch_name(path).removeprefix("text_model.")]
            if path.endswith("kernel"):
                tensor = tensor.transpose({2: (1, 0), 4: (2, 3, 1, 0)}[tensor.ndim])
            np.testing.assert_array_equal(leaf, tensor, err_msg=path)


def test_its_texts_are_those_of_transformers(base, models):
    """The penultimate layer of the file's 24, which is the config's last."""
    ids = jax.random.randint(jax.random.key(0), (2, 32), 0, 1200)
    ours = clip_text(base.params["text_encoder"], base.spec.text_encoder, ids)
    with torch.no_grad():
        theirs = models["text_encoder"](
            torch.tensor(np.array(ids)).long()
        ).last_hidden_state
    np.testing.assert_allclose(ours, theirs.numpy(), atol=TOLERANCE)


def test_tensors_that_do_not_fit_have_the_names_of_the_file(files, tmp_path):
    configs, path = files
    tensors = load_file(path)
    del tensors["cond_stage_model.model.ln_final.bias"]
    name = "cond_stage_model.model.transformer.resblocks.3.attn.in_proj_weight"
    tensors[name] = tensors[name][:9].clone()
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="do not fit") as caught:
        load_base(tmp_path / "x.safetensors", config=configs)
    assert "1 missing (cond_stage_model.model.ln_final.bias)" in str(caught.value)
    assert f"{name}[q] (3, 16) instead of (16, 16)" in str(caught.value)


@pytest.mark.parametrize("kind", list(published.KINDS))
def test_the_published_configs_make_the_same_networks_in_torch(kind):
    classes = {
        "unet": diffusers.UNet2DConditionModel,
        "vae": diffusers.AutoencoderKL,
        "text_encoder": transformers.CLIPTextModel,
    }
    for part, cls in classes.items():
        folder = published.directory(kind) / part
        values = read_json(folder / "config.json")
        with torch.device("meta"):
            if part == "text_encoder":
                module = cls(transformers.CLIPTextConfig(**values))
            else:
                module = cls.from_config(values)
        theirs = {
            name.removeprefix("text_model."): tuple(tensor.shape)
            for name, tensor in module.state_dict().items()
            if "position_ids" not in name
        }
        template = make.shapes(part, _CLASSES[part][1].from_json(values))
        ours = {
            torch_name(path).removeprefix("text_model."): torch_shape(path, leaf.shape)
            for path, leaf in template.items()
        }
        assert ours == theirs


@pytest.mark.parametrize("kind", ["v1", "v2"])
def test_the_tokenizer_is_that_of_transformers(kind, tmp_path):
    """Its files in one directory, as published, padding included."""
    for folder in (published.vocabulary(), published.directory(kind) / "tokenizer"):
        for path in folder.iterdir():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    ours = load_tokenizer(
        published.directory(kind) / "tokenizer", vocabulary=published.vocabulary()
    )
    expected = theirs(STRINGS, padding="max_length", truncation=True).input_ids
    assert tokenize(ours, STRINGS).tolist() == expected

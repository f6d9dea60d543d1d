"""LoRA files that diffusers and kohya's conventions define, against diffusers itself.

Each file is written from one set of random factors. diffusers loads it into its own
UNet and text encoder; ours are compared with theirs at 1e-5 on weights and 1e-4 on a
noise prediction.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("peft")

from safetensors.torch import save_file  # noqa: E402
from transformers import CLIPTextModel  # noqa: E402

from personax.concepts.bind import from_base, with_concepts  # noqa: E402
from personax.core.tree import flat  # noqa: E402
from personax.diffusion.denoiser import Prompt, network  # noqa: E402
from personax.loading import load_base  # noqa: E402
from personax.loading.names import from_layout, torch_name, torch_shape  # noqa: E402
from tests.small_models import write_small  # noqa: E402

RANK, ALPHA = 3, 2.0
UNET = (  # a linear layer, a projection that is a 1x1 convolution, a 3x3 convolution
    "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k",
    "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0",
    "up_blocks.1.attentions.1.transformer_blocks.0.ff.net.0.proj",
    "mid_block.attentions.0.proj_in",
    "down_blocks.0.resnets.0.conv1",
    "down_blocks.0.downsamplers.0.conv",
)
TEXT = (
    "text_model.encoder.layers.0.self_attn.q_proj",
    "text_model.encoder.layers.1.self_attn.out_proj",
    "text_model.encoder.layers.1.mlp.fc1",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("adapters") / "base")


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


@pytest.fixture(scope="module")
def factors(base):
    """{component: {module: (down, up)}}, as large as the weights they change."""
    rng = np.random.default_rng(0)
    shapes = {
        torch_name(path).removesuffix(".weight"): torch_shape(path, leaf.shape)
        for path, leaf in flat(base.params).items()
        if path.endswith("kernel")
    }

    def draw(module):
        out, *inputs = shapes[module]
        down = 0.3 * rng.standard_normal((RANK, *inputs), np.float32)
        up = 0.3 * rng.standard_normal((out, RANK, *[1] * (len(inputs) - 1)))
        return torch.tensor(down), torch.tensor(up.astype("f4"))

    return {
        component: {each: draw(f"{component}.{each}") for each in modules}
        for component, modules in (("unet", UNET), ("text_encoder", TEXT))
    }


def pipeline(folder):
    """diffusers' pipeline with fresh networks of the base."""
    load = diffusers.UNet2DConditionModel.from_pretrained
    return diffusers.StableDiffusionPipeline(
        unet=load(folder / "unet"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae"),
        tokenizer=None,
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def theirs(folder, path):
    """{component.name: weight} after diffusers loaded and fused a file."""
    pipe = pipeline(folder)
    pipe.load_lora_weights(str(path.parent), weight_name=path.name)
    pipe.fuse_lora(components=["unet", "text_encoder"])
    pipe.unload_lora_weights()
    return pipe, {
        f"{component}.{name}": weight.detach().numpy()
        for component in ("unet", "text_encoder")
        for name, weight in getattr(pipe, component).state_dict().items()
    }


def ours(base, source, **reading):
    """{component.name: weight}, in torch's layout, with a source bound."""
    model = with_concepts(from_base(base), base, [str(source)], **reading)
    return model, {
        torch_name(path): from_layout(path, np.asarray(leaf))
        for path, leaf in flat(model.denoiser.params).items()
    }


def assert_equal(ours, theirs, base, changed):
    """Equal at 1e-5, and changed in exactly `changed` of the base's weights."""
    moved = 0
    for path, leaf in flat(from_base(base).denoiser.params).items():
        name = torch_name(path)
        own = theirs.get(name)
        if own is None:  # a text encoder without its prefix
            own = theirs[name.replace("text_model.", "")]
        np.testing.assert_allclose(ours[name], own, rtol=0, atol=1e-5, err_msg=name)
        moved += np.abs(ours[name] - from_layout(path, np.asarray(leaf))).max() > 1e-2
    assert moved == changed


def kohya(factors):
    tensors = {}
    for component, prefix in (("unet", "lora_unet_"), ("text_encoder", "lora_te_")):
        for module, (down, up) in factors[component].items():
            name = prefix + module.replace(".", "_")
            tensors[f"{name}.lora_down.weight"] = down
            tensors[f"{name}.lora_up.weight"] = up
            tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    return tensors


def named(factors, down_name, up_name, *, folded=True, text=True):
    """Keys COMPONENT.MODULE.NAME with alpha / r inside the up factors."""
    tensors = {}
    for component in ("unet", "text_encoder") if text else ("unet",):
        for module, (down, up) in factors[component].items():
            scale = ALPHA / RANK if folded else 1.0
            tensors[f"{component}.{module}.{down_name}"] = down
            tensors[f"{component}.{module}.{up_name}"] = scale * up
    return tensors


def write(path, tensors, metadata=None):
    path.parent.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata)
    return path


@pytest.fixture(scope="module")
def reference(folder, factors, tmp_path_factory):
    """What diffusers makes of PEFT's names, its own recommendation."""
    tensors = named(factors, "lora_A.weight", "lora_B.weight")
    path = write(tmp_path_factory.mktemp("files") / "peft.safetensors", tensors)
    pipe, weights = theirs(folder, path)
    return path, pipe, weights


def test_peft_names(base, reference):
    path, _, weights = reference
    _, own = ours(base, path)
    assert_equal(own, weights, base, len(UNET) + len(TEXT))


def test_the_prediction_is_diffusers(base, reference):
    path, pipe, _ = reference
    model, _ = ours(base, path)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 8, 8, 4), np.float32)
    text = rng.standard_normal((2, 7, 16), np.float32)
    own, _ = network(
        model.denoiser, jnp.asarray(x), jnp.full(2, 400.0), Prompt(jnp.asarray(text))
    )
    with torch.no_grad():
        other = pipe.unet(
            torch.tensor(x.transpose(0, 3, 1, 2)), 400, torch.tensor(text)
        ).sample
    other = other.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(own, other, rtol=0, atol=1e-4)
    plain, _ = network(
        from_base(base).denoiser,
        jnp.asarray(x),
        jnp.full(2, 400.0),
        Prompt(jnp.asarray(text)),
    )
    assert np.abs(plain - other).max() > 1e-2


def test_kohya_names_with_alpha(base, folder, factors, reference, tmp_path):
    path = write(tmp_path / "kohya.safetensors", kohya(factors))
    _, own = ours(base, path)
    assert_equal(own, reference[2], base, len(UNET) + len(TEXT))
    # diffusers reads the text encoder's layers only where both names of it occur.
    _, weights = theirs(folder, path)
    unet = [name for name in weights if name.startswith("unet.")]
    for name in unet:
        np.testing.assert_allclose(own[name], weights[name], rtol=0, atol=1e-5)


def test_kohya_names_of_a_flattened_text_encoder(base, factors, reference, tmp_path):
    tensors = {
        name.replace("lora_te_text_model_", "lora_te_"): tensor
        for name, tensor in kohya(factors).items()
    }
    _, own = ours(base, write(tmp_path / "kohya.safetensors", tensors))
    assert_equal(own, reference[2], base, len(UNET) + len(TEXT))


def test_names_that_diffusers_training_scripts_wrote(
    base, reference, factors, tmp_path
):
    tensors = {
        name.replace("lora.", "lora_linear_layer.", name.startswith("text")): tensor
        for name, tensor in named(factors, "lora.down.weight", "lora.up.weight").items()
    }
    assert any("lora_linear_layer.up" in name for name in tensors)
    _, own = ours(base, write(tmp_path / "a.safetensors", tensors))
    assert_equal(own, reference[2], base, len(UNET) + len(TEXT))


@pytest.mark.parametrize("prefix", ["unet.", ""])
def test_the_names_of_2023(base, folder, factors, tmp_path, prefix):
    """Attention only; diffusers ignores the file without the prefix, with a warning."""
    attention = {k: v for k, v in factors["unet"].items() if "attn" in k}
    tensors = {}
    for module, (down, up) in attention.items():
        block, _, layer = module.removesuffix(".0").rpartition(".")
        name = f"{block}.processor.{layer}_lora"
        tensors |= {f"{name}.down.weight": down, f"{name}.up.weight": up}
    with_prefix = {f"unet.{name}": tensor for name, tensor in tensors.items()}
    _, weights = theirs(folder, write(tmp_path / "b" / "a.safetensors", with_prefix))
    given = with_prefix if prefix else tensors
    _, own = ours(base, write(tmp_path / "a.safetensors", given))
    assert_equal(own, weights, base, len(attention))


def test_alphas_in_the_metadata(base, folder, factors, reference, tmp_path):
    tensors = named(factors, "lora_A.weight", "lora_B.weight", folded=False, text=False)
    patterned = UNET[-1]
    config = {
        "r": RANK,
        "lora_alpha": ALPHA,
        "target_modules": list(UNET),
        "alpha_pattern": {patterned: 5.0},
    }
    metadata = {f"unet.{key}": value for key, value in config.items()}
    metadata = {"format": "pt", "lora_adapter_metadata": json.dumps(metadata)}
    path = write(tmp_path / "a.safetensors", tensors, metadata)
    _, weights = theirs(folder, path)
    _, own = ours(base, path)
    assert_equal(own, weights, base, len(UNET))


def test_a_pickle_needs_permission(base, factors, reference, tmp_path):
    tensors = named(factors, "lora_A.weight", "lora_B.weight")
    torch.save(tensors, tmp_path / "a.bin")
    with pytest.raises(ValueError, match=r"a\.bin is a pickle.*--allow_pickle"):
        ours(base, tmp_path / "a.bin")
    _, own = ours(base, tmp_path / "a.bin", allow_pickle=True)
    assert_equal(own, reference[2], base, len(UNET) + len(TEXT))

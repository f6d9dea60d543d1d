"""Custom Diffusion files of other programs: our prediction is theirs at 1e-4.

diffusers' own layout is written by diffusers' processors and read by its loader; the
authors' delta.bin and delta.ckpt have no loader here, so that their documented keys are
written and loaded into diffusers' UNet by name.
"""

import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from diffusers.models.attention_processor import (  # noqa: E402
    CustomDiffusionAttnProcessor,
)
from safetensors.torch import save_file  # noqa: E402

from personax.concepts.bind import from_base, with_concepts  # noqa: E402
from personax.core.tree import flat  # noqa: E402
from personax.diffusion.denoiser import Prompt, network  # noqa: E402
from personax.loading import load_base  # noqa: E402
from personax.loading.ldm import ldm_names  # noqa: E402
from personax.methods.parts.tokens import TABLE  # noqa: E402
from personax.networks.tokenizer import ids_of  # noqa: E402
from tests.small_models import write_small  # noqa: E402

WIDTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("cd") / "base")


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


def unet_of(folder):
    return diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")


def noise(shape, seed=0, size=0.2):
    rng = np.random.default_rng(seed)
    return torch.tensor(size * rng.standard_normal(shape, np.float32))


def predict(unet):
    x, text = noise((2, 4, 8, 8), 1, 1.0), noise((2, 7, WIDTH), 2, 1.0)
    with torch.no_grad():
        return unet(x, 400, text).sample.numpy().transpose(0, 2, 3, 1)


def bind(base, source):
    return with_concepts(from_base(base), base, [str(source)], allow_pickle=True)


def assert_predicts(base, source, want):
    """The prediction is `want`, which the plain base does not give."""
    x = noise((2, 4, 8, 8), 1, 1.0).numpy().transpose(0, 2, 3, 1)
    text = Prompt(jnp.asarray(noise((2, 7, WIDTH), 2, 1.0).numpy()))
    model = bind(base, source)
    own, _ = network(model.denoiser, jnp.asarray(x), jnp.full(2, 400.0), text)
    np.testing.assert_allclose(own, want, rtol=0, atol=1e-4)
    plain = from_base(base).denoiser
    other, _ = network(plain, jnp.asarray(x), jnp.full(2, 400.0), text)
    assert np.abs(other - want).max() > 1e-2
    return model


def with_processors(folder, *, crossattn):
    """diffusers' UNet with trained processors, as its training script makes it."""
    unet = unet_of(folder)
    processors = {}
    for i, name in enumerate(unet.attn_processors):
        cross = name.endswith("attn2.processor")
        module = unet.get_submodule(name.removesuffix(".processor"))
        processor = CustomDiffusionAttnProcessor(
            train_kv=cross,
            train_q_out=cross and crossattn,
            hidden_size=module.to_q.weight.shape[0],
            cross_attention_dim=WIDTH if cross else None,
        )
        for k, parameter in enumerate(processor.parameters()):
            parameter.data = noise(parameter.shape, 10 * i + k, 0.5)
        processors[name] = processor
    unet.set_attn_processor(processors)
    return unet


@pytest.mark.parametrize("crossattn", [False, True], ids=["kv", "crossattn"])
@pytest.mark.parametrize("safe", [False, True], ids=["bin", "safetensors"])
def test_diffusers_layout(base, folder, tmp_path, crossattn, safe):
    unet = with_processors(folder, crossattn=crossattn)
    unet.save_attn_procs(tmp_path, safe_serialization=safe)
    word = noise(WIDTH)
    torch.save({"<new1>": word}, tmp_path / "<new1>.bin")
    model = assert_predicts(base, tmp_path, predict(unet))
    (index,) = ids_of(model.tokenizer, "<new1>")
    row = np.asarray(flat(model.denoiser.params)[TABLE])[index]
    np.testing.assert_array_equal(row, word)
    if not safe:  # the same file as diffusers' own loader reads it
        other = unet_of(folder)
        pipe = diffusers.StableDiffusionPipeline(
            *(None, None, None, other, None, None, None),
            requires_safety_checker=False,
        )
        other.load_attn_procs(
            tmp_path,
            weight_name="pytorch_custom_diffusion_weights.bin",
            _pipeline=pipe,
        )
        np.testing.assert_allclose(predict(other), predict(unet), rtol=0, atol=1e-5)


def test_entries_without_numbers_are_ignored(base, folder, tmp_path):
    """Those that make diffusers load its own safetensors; see its loader."""
    unet = with_processors(folder, crossattn=False)
    tensors = {}
    for name, processor in unet.attn_processors.items():
        state = processor.state_dict()
        tensors |= {f"{name}.{key}": x.contiguous() for key, x in state.items()}
        if not state:
            tensors[name] = torch.zeros(0)
    path = tmp_path / "pytorch_custom_diffusion_weights.safetensors"
    save_file(tensors, path)
    assert_predicts(base, path, predict(unet))


def changed(folder, compressed=False):
    """(diffusers' UNet with other keys and values, what a delta says of it)."""
    unet, delta = unet_of(folder), {}
    for i, (name, weight) in enumerate(unet.named_parameters()):
        if "attn2.to_k" in name or "attn2.to_v" in name:
            out, width = weight.shape
            u, v = noise((out, 3), i, 0.5), noise((3, width), i + 999, 0.5)
            weight.data += u @ v
            delta[name] = {"u": u, "v": v} if compressed else weight.data.clone()
    return unet, delta


@pytest.mark.parametrize("compressed", [False, True], ids=["whole", "compressed"])
def test_delta_bin(base, folder, tmp_path, compressed):
    unet, delta = changed(folder, compressed)
    words = {"<new1>": noise(WIDTH, 5), "<new2>": noise(WIDTH, 6)}
    torch.save({"unet": delta, "modifier_token": words}, tmp_path / "delta.bin")
    model = assert_predicts(base, tmp_path / "delta.bin", predict(unet))
    table = np.asarray(flat(model.denoiser.params)[TABLE])
    for word, row in words.items():
        (index,) = ids_of(model.tokenizer, word)
        np.testing.assert_array_equal(table[index], row)


def test_delta_bin_with_a_text_encoder(base, folder, tmp_path):
    unet, delta = changed(folder)
    words = {"<new1>": noise(WIDTH, 5)}
    state = {
        path.removeprefix("text_encoder/"): np.array(leaf) + np.float32(0.1)
        for path, leaf in flat(base.params).items()
        if path.startswith("text_encoder/")
    }
    text = {}
    for path, array in state.items():
        module, _, leaf = path.rpartition("/")
        leaf = "weight" if leaf in ("kernel", "scale", "embedding") else leaf
        array = array.T if path.endswith("kernel") else array
        text[f"{module}/{leaf}".replace("/", ".")] = torch.tensor(array.copy())
    table = "text_model.embeddings.token_embedding.weight"
    text[table] = torch.cat([text[table], words["<new1>"][None]])
    text["text_model.embeddings.position_ids"] = torch.arange(32)[None]
    torch.save(
        {"unet": delta, "modifier_token": words, "text_encoder": text},
        tmp_path / "delta.bin",
    )
    model = assert_predicts(base, tmp_path / "delta.bin", predict(unet))
    own = flat(model.denoiser.params)
    for path, array in state.items():
        leaf = own[f"text_encoder/{path}"][: len(array)]
        np.testing.assert_allclose(leaf, array, rtol=0, atol=1e-6, err_msg=path)
    np.testing.assert_array_equal(own[TABLE][-1], words["<new1>"])


@pytest.mark.parametrize("compressed", [False, True], ids=["whole", "compressed"])
def test_delta_ckpt_of_compvis(base, folder, tmp_path, compressed):
    unet, delta = changed(folder, compressed)
    paths = [path[5:] for path in flat(base.params) if path.startswith("unet/")]
    ldm = ldm_names("unet", paths, base.spec.unet)
    names = {
        path.removesuffix("/kernel").replace("/", ".") + ".weight": name
        for path, name in ldm.items()
    }
    state = {names[name]: value for name, value in delta.items()}
    middle = "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k"
    assert f"{middle}.weight" in state
    state["embed"] = noise((2, WIDTH), 5)
    path = tmp_path / "delta_epoch=000004.ckpt"
    torch.save({"state_dict": state}, path)
    model = assert_predicts(base, path, predict(unet))
    table = np.asarray(flat(model.denoiser.params)[TABLE])
    for i, word in enumerate(("<new1>", "<new2>")):
        (index,) = ids_of(model.tokenizer, word)
        np.testing.assert_array_equal(table[index], state["embed"][i])

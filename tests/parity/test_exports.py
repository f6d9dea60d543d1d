"""Every format of `personax.export`, opened by diffusers, peft and transformers."""

import functools
import json

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

from personax.concepts.exports.factors import Factors
from personax.concepts.exports.lora import kohya_tensors
from personax.concepts.exports.request import embeddings_folder
from personax.diffusion.denoiser import encode, network
from personax.loading import load_base
from personax.networks.tokenizer import tokenize
from tests.exporting import World

EQUAL = 2e-5  # max abs difference of predictions, which are of order 1
HALF = 2e-2  # the same where files are in float16
PROMPT = "a photo of a <v1> dog"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("exports"))


@pytest.fixture(scope="module")
def plain(world):
    """The folder of the base, exported: one that diffusers opens."""
    world.export("plain")
    return world.folder / "plain"


def open_pipeline(folder, **options):
    return diffusers.StableDiffusionPipeline.from_pretrained(folder, **options)


def noise():
    return np.random.default_rng(0).standard_normal((1, 8, 8, 4), np.float32)


def theirs(pipe, prompt=PROMPT):
    """A pipeline's prediction for a prompt."""
    with torch.no_grad():
        text, _ = pipe.encode_prompt(prompt, "cpu", 1, False)
        x = torch.from_numpy(noise()).permute(0, 3, 1, 2).to(pipe.unet.dtype)
        t = torch.tensor([321.0])
        out = pipe.unet(x, t, encoder_hidden_states=text).sample
    return out.permute(0, 2, 3, 1).float().numpy()


@jax.jit
def _predict(denoiser, ids):
    prompt = encode(denoiser, ids)
    return network(denoiser, jnp.asarray(noise()), jnp.array([321.0]), prompt)[0]


def ours(model, prompt=PROMPT):
    ids = jnp.asarray(tokenize(model.tokenizer, [prompt]))
    return np.asarray(_predict(model.denoiser, ids))


@functools.cache
def _ours(world, names, prompt):
    return ours(world.bound(*names), prompt)


def check(pipe, world, *names, prompt=PROMPT, atol=EQUAL):
    """The pipeline predicts what the concepts do, and the base does not."""
    want = _ours(world, names, prompt)
    np.testing.assert_allclose(theirs(pipe, prompt), want, atol=atol)
    assert 0.3 < want.std() < 3
    assert np.abs(want - _ours(world, (), prompt)).max() > 20 * atol


@pytest.mark.parametrize("name", ["custom", "faces", "lora", "dreambooth", "word"])
def test_a_pipeline_has_weights_and_words(world, name):
    exported = world.export(f"pipeline_{name}", name)
    folder = world.folder / f"pipeline_{name}"
    model = world.bound(name)
    check(open_pipeline(folder), world, name)
    # The tokenizer itself, without the pipeline's expansion.
    words = [other for each in model.tokenizer.placeholders for other in each.ids]
    tokens = ["<v1>", "<v1>_1"][: len(words)]
    assert repr(" ".join(tokens)) in " ".join(exported.notes) or len(words) == 1
    tokenizer = transformers.CLIPTokenizer.from_pretrained(folder / "tokenizer")
    rows = tokenizer(f"a {' '.join(tokens)} dog", add_special_tokens=False).input_ids
    assert rows[1:-1] == [1212, 1213][: len(words)]
    # Our own loader opens it as well, and then the word is one of its vocabulary.
    again = load_base(folder)
    assert again.vae_fingerprint == world.base.vae_fingerprint
    assert again.tokenizer.size == 1212 + len(words)


def test_a_pipeline_draws_the_same_picture(world):
    from personax.diffusion.guidance import guide
    from personax.diffusion.sampling import sample
    from personax.diffusion.solvers import SOLVERS
    from personax.sampling import prompt_terms
    from personax.sampling.prompt_terms import TermSpec
    from personax.sampling.sampler import decode_latents

    world.export("drawing", "custom")
    pipe = open_pipeline(world.folder / "drawing")
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(
        PROMPT,
        latents=torch.from_numpy(noise()).permute(0, 3, 1, 2),
        guidance_scale=3.0,
        num_inference_steps=4,
        height=16,
        width=16,
        output_type="np",
    ).images
    model = world.bound("custom")
    spec, solver = model.denoiser.spec, SOLVERS["ddim"]
    grid = solver.grid(spec.schedule, 4)
    terms = prompt_terms.to_terms({"base": model}, [TermSpec(PROMPT, 3.0)])
    latents = jax.jit(
        lambda denoiser, x: sample(guide({"base": denoiser}, terms), solver, grid, x)
    )(model.denoiser, jnp.asarray(noise()))
    pixels = np.asarray(decode_latents(spec, world.base.params["vae"], latents))
    drawn = np.round(drawn * 255).astype(int)
    assert np.abs(pixels.astype(int) - drawn).max() <= 1
    assert drawn.std() > 5


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_pipeline_in_half_precision(world, dtype):
    variant = {"float16": "fp16", "bfloat16": "bf16"}[dtype]
    world.export(dtype, "custom", dtype=dtype, variant=variant)
    files = sorted(path.name for path in (world.folder / dtype).rglob("*.safetensors"))
    stem = "diffusion_pytorch_model"
    assert files == [f"{stem}.{variant}.safetensors"] * 2 + [
        f"model.{variant}.safetensors"
    ]
    pipe = open_pipeline(world.folder / dtype, variant=variant, dtype=torch.float32)
    check(pipe, world, "custom", atol=HALF)


@pytest.mark.parametrize("name", ["dreambooth", "custom"])
def test_a_single_file(world, plain, name):
    world.export(f"{name}.safetensors", name, to="single-file")
    path = world.folder / f"{name}.safetensors"
    pipe = diffusers.StableDiffusionPipeline.from_single_file(
        str(path), config=str(plain), local_files_only=True
    )
    words = embeddings_folder(path) / "v1.safetensors"
    pipe.load_textual_inversion(str(words))
    check(pipe, world, name)
    want = open_pipeline(plain).vae.state_dict()
    for key, tensor in pipe.vae.state_dict().items():
        assert torch.equal(tensor, want[key]), key


@pytest.mark.parametrize("to", ["lora", "lora-peft"])
@pytest.mark.parametrize(
    "names",
    [
        ("lora",),
        ("lora@0.5", "lora_next@-0.25"),
        ("custom",),
        ("lora_next", "<v2>=custom@0.5"),
    ],
    ids=str,
)
def test_a_lora(world, plain, to, names):
    out = f"{to}{names}.safetensors".replace("/", "")
    exported = world.export(out, *names, to=to)
    pipe = open_pipeline(plain)
    pipe.load_lora_weights(str(world.folder / out))
    for path in embeddings_folder(world.folder / out).glob("*.safetensors"):
        pipe.load_textual_inversion(str(path))
    model = world.bound(*names)
    prompt = PROMPT.replace("<v1>", "<v2>") if "<v2>" in out else PROMPT
    prompt = prompt if model.tokenizer.placeholders else "a photo of a dog"
    check(pipe, world, *names, prompt=prompt)
    if not any("custom" in name for name in names):
        assert "have the factors that were trained" in " ".join(exported.notes)


def test_a_text_encoder_without_outputs_is_applied_all_the_same(world, plain):
    """diffusers drops q, k and v of a kohya file that has no out_proj."""
    path = "text_encoder/text_model/encoder/layers/0/self_attn/q_proj/kernel"
    rng = np.random.default_rng(0)
    A, B = (rng.standard_normal(shape, np.float32) for shape in ((16, 2), (2, 16)))
    tensors = kohya_tensors({path: Factors(A, B, 2.0)}, "float32")
    pipe = open_pipeline(plain)
    before = theirs(pipe)
    state = {name: torch.from_numpy(x) for name, x in tensors.items()}
    pipe.load_lora_weights(state)
    layer = pipe.text_encoder.state_dict()
    (up,) = (x for key, x in layer.items() if "0.self_attn.q_proj.lora_B" in key)
    np.testing.assert_array_equal(up, B.T)
    assert np.abs(theirs(pipe) - before).max() > 1e-3


@pytest.mark.parametrize("name", ["custom", "faces"])
def test_custom_diffusion(world, plain, name):
    world.export(f"cd_{name}", name, to="custom-diffusion")
    folder = world.folder / f"cd_{name}"
    pipe = open_pipeline(plain)
    pipe.unet.load_attn_procs(
        str(folder),
        weight_name="pytorch_custom_diffusion_weights.safetensors",
        _pipeline=pipe,
    )
    pipe.load_textual_inversion(str(folder), weight_name="<v1>.safetensors")
    check(pipe, world, name)
    pipe = open_pipeline(plain)
    delta = load_file(folder / "delta.safetensors")
    found = pipe.unet.load_state_dict(delta, strict=False)
    assert not found.unexpected_keys
    pipe.load_textual_inversion(str(folder), weight_name="<v1>.safetensors")
    check(pipe, world, name)


def test_embeddings(world, plain):
    world.export("words", "word", to="embedding")
    pipe = open_pipeline(plain)
    pipe.load_textual_inversion(str(world.folder / "words/diffusers/v1.safetensors"))
    check(pipe, world, "word")
    pipe = open_pipeline(plain)
    path = str(world.folder / "words/a1111/v1.safetensors")
    pipe.load_textual_inversion(path, token="<v1>")
    check(pipe, world, "word")


def test_the_index_names_what_is_there(plain):
    index = json.loads((plain / "model_index.json").read_text())
    for name in ("safety_checker", "feature_extractor", "image_encoder"):
        assert index[name] == [None, None]
    assert index["requires_safety_checker"] is False
    inside = {path.name for path in plain.iterdir()}
    parts = {name for name, each in index.items() if isinstance(each, list) and each[0]}
    assert inside == parts | {"model_index.json"}
    state = load_file(plain / "text_encoder" / "model.safetensors")
    assert all(key.startswith("text_model.") for key in state)

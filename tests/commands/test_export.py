"""The export command: a pipeline that diffusers reads, and its errors."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from personax import export, methods
from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts
from personax.diffusion.denoiser import encode, network
from personax.loading import load_base
from personax.methods import Concept
from personax.networks.tokenizer import tokenize
from tests.commands.test_commands import run
from tests.exporting import World
from tests.loading.make import write_pipeline
from tests.refusing import make_refusal

torch = pytest.importorskip("torch")
UNet2DConditionModel = pytest.importorskip("diffusers").UNet2DConditionModel

WRITTEN = 1e-5  # max abs difference from torch's prediction, of order 1
FACE = Concept("", "face", (), (), "face")
FLAGS = {
    **{"base": "emoji", "out": "/nowhere/out", "dtype": "float32", "rank": None},
    **{"base_config": None, "variant": None, "allow_pickle": False, "to": "diffusers"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the small pipeline, and a concept without text on it."""
    folder = tmp_path_factory.mktemp("export")
    write_pipeline(folder / "base")
    base = load_base(folder / "base")
    denoiser = from_base(base).denoiser
    method = methods.make("concept_centric", null_norm="token_mean")
    null = jnp.asarray(tokenize(base.tokenizer, [""]))
    theta = methods.init(method, jax.random.key(0), denoiser.params, [FACE])
    artifact.save(
        folder / "concept",
        jax.tree.map(lambda x: 1.1 * x, theta),
        [FACE],
        method="concept_centric",
        method_args={"null_norm": "token_mean"},
        base=base.name,
        fingerprint=base.fingerprint,
        prepared=methods.saved(method, methods.prepare(method, denoiser, null)),
        step=1,
    )
    return folder


def test_diffusers_reads_the_pipeline_and_predicts_the_same(folder):
    out = folder / "out"
    done = run(
        "personax.export",
        folder / "concept",  # it names its base
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    theirs = UNet2DConditionModel.from_pretrained(out / "unet").eval()
    base = load_base(folder / "base")
    model = with_concepts(from_base(base), base, [str(folder / "concept")])
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 8, 8, 4), np.float32)
    text = rng.standard_normal((1, 32, 16), np.float32)
    prompt = encode(model.denoiser, jnp.asarray(tokenize(base.tokenizer, ["a dog"])))
    ours, _ = network(model.denoiser, jnp.asarray(x), jnp.array([321.0]), prompt)
    with torch.no_grad():
        predicted = theirs(
            torch.from_numpy(x).permute(0, 3, 1, 2),
            torch.tensor([321.0]),
            encoder_hidden_states=torch.from_numpy(text),
        ).sample
    np.testing.assert_allclose(predicted.permute(0, 2, 3, 1), ours, atol=WRITTEN)
    again = load_base(out)
    assert again.spec == base.spec
    assert again.vae_fingerprint == base.vae_fingerprint
    assert again.fingerprint != base.fingerprint


def test_invalid_arguments_are_refused_before_anything_is_loaded(
    monkeypatch, capsys, tmp_path
):
    def load(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(export, "load_named_base", load)
    refusal = make_refusal(export, FLAGS, monkeypatch, capsys)
    file = str(tmp_path / "out.safetensors")
    assert "--to lora writes what concepts change" in refusal(to="lora", out=file)
    assert f"--out {tmp_path} exists" in refusal("a", out=str(tmp_path))
    assert "must end in .safetensors" in refusal("a", to="diff", out="/nowhere/out")
    assert "--rank is for --to lora" in refusal("a", rank=4)
    assert "--rank 0 must be" in refusal("a", to="lora", out=file, rank=0)
    (tmp_path / "out_embeddings").mkdir()
    assert "out_embeddings exists" in refusal("a", to="lora", out=file)


def test_concepts_that_cannot_be_read_are_refused(emoji, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(export, "load_named_base", lambda *_, **__: emoji)
    refusal = make_refusal(export, FLAGS, monkeypatch, capsys)
    assert "holds no concept.json" in refusal(tmp_path)
    assert "strength 'half' is not a number" in refusal(f"{tmp_path}@half")


def test_two_concepts_at_strengths_become_one_lora(tmp_path, monkeypatch, capsys):
    world, out = World(tmp_path), tmp_path / "two.safetensors"
    given = {**FLAGS, "base": str(world.source), "to": "lora", "out": str(out)}
    monkeypatch.setattr(export, "FLAGS", types.SimpleNamespace(**given))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    export.main(["export", *world.sources("lora@0.5", "lora_next")])
    said = capsys.readouterr().out.splitlines()
    # 32 of attention, 8 of feed-forward, 33 convolutions, 8 of the text encoder.
    assert said[0].startswith(f"A LoRA of 81 kernels in {out}: load ")
    assert "  81 kernels have the factors that were trained." in said
    with safe_open(out, "np") as file:
        metadata = file.metadata()
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_network_dim"] == "5"
    assert metadata["ss_base_model_version"] == "sd_v1"

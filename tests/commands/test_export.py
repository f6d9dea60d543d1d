"""The export command: a pipeline that diffusers reads, and its errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from personax import export, methods
from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts
from personax.concepts.export import plain_unet
from personax.diffusion.denoiser import encode, network
from personax.loading import load_base
from personax.methods import Concept
from personax.networks.tokenizer import tokenize
from tests.commands.test_commands import run
from tests.loading.make import write_pipeline
from tests.refusing import make_refusal
from tests.untrained import save_untrained

torch = pytest.importorskip("torch")
UNet2DConditionModel = pytest.importorskip("diffusers").UNet2DConditionModel

WRITTEN = 1e-5  # max abs difference from torch's prediction, of order 1
FACE = Concept("", "face", (), (), "face")
FLAGS = {
    **{"base": "emoji", "out": "/nowhere/out", "dtype": "float32"},
    **{"base_config": None, "variant": None, "allow_pickle": False},
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
        folder / "concept",
        f"--base={folder / 'base'}",
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


def test_a_concept_with_tokens_is_refused(emoji, tmp_path):
    dog = Concept("<v1>", "dog", (emoji.tokenizer.size,), (5,), "<v1> dog")
    save_untrained(tmp_path / "dog", emoji, dog, "custom_diffusion")
    model = with_concepts(from_base(emoji), emoji, [str(tmp_path / "dog")])
    with pytest.raises(ValueError, match="more than a UNet"):
        plain_unet(model, emoji)


def test_invalid_arguments_are_refused(emoji, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(export, "load_base", lambda *_, **__: emoji)
    refusal = make_refusal(export, FLAGS, monkeypatch, capsys)
    assert "One concept at a time" in refusal()
    assert "One concept at a time" in refusal("a", "b")
    assert f"--out {tmp_path} exists" in refusal("a", out=str(tmp_path))
    assert "'/nowhere' does not exist" in refusal("a", base="/nowhere")
    assert "holds no concept.json" in refusal(tmp_path)

"""The merge command: its output, the merged concepts, and its errors."""

import json

import jax
import numpy as np
import pytest

from personax import merge
from personax.concepts import artifact
from personax.concepts.bind import from_base, with_concepts
from personax.concepts.merge import SourceConcept, with_unique_words
from personax.core.tree import flat, select
from personax.diffusion.denoiser import encode
from personax.methods import Concept
from personax.methods.parts.tokens import TABLE
from personax.networks.tokenizer import tokenize
from tests.commands.test_commands import run
from tests.refusing import make_refusal

PROMPTS = ("a photo of a <v1> dog", "a photo of a <v1> cat")
FLAGS = {
    **{"base": "emoji", "out": "/nowhere/AB", "captions": None, "ridge": 0.0},
    **{"base_config": None, "variant": None, "allow_pickle": False},
}


def save_trained(folder, base, seed, prompt, *, pattern="kv", before=(), **method_args):
    """A concept as training might write it, with low-rank noise as its change."""
    rng = np.random.default_rng(seed)
    params = from_base(base).denoiser.params

    def noise(rows, columns, rank=4):
        u, v = rng.standard_normal((rows, rank)), rng.standard_normal((rank, columns))
        return 0.01 * u @ v

    weights = {
        path: np.float32(leaf + (noise(*leaf.shape) if leaf.ndim == 2 else 0.01))
        for path, leaf in select(params, pattern).items()
    }
    row = flat(params)[TABLE][7] + 0.01 * rng.standard_normal(128)
    artifact.save(
        folder,
        {"weights": weights, "tokens": {"embedding": np.float32(row)[None]}},
        [Concept("<v1>", prompt.split()[-1], (base.tokenizer.size,), (7,))],
        method="custom_diffusion",
        method_args=method_args,
        base=base.name,
        fingerprint=base.fingerprint,
        prompts=[[prompt]],
        before=before,
    )
    return folder


@pytest.fixture(scope="module")
def folders(emoji, tmp_path_factory):
    root = tmp_path_factory.mktemp("concepts")
    return [
        save_trained(root / f"{seed}", emoji, seed, PROMPTS[seed]) for seed in range(2)
    ]


@pytest.fixture(scope="module")
def merged(folders):
    """(the folder of the merge, what the command printed)."""
    out = folders[0].parent / "merged"
    done = run("personax.merge", *folders, f"--out={out}", "--ridge=1e-4")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_it_prints_the_concepts_and_the_residuals(merged, folders):
    out, printed = merged
    lines = printed.splitlines()
    assert lines[0] == f"<v1> dog from {folders[0]}"
    assert lines[1] == f"<v2> cat from {folders[1]}, named <v1> there"
    assert "constraint residual" in lines[2]
    assert f"2 concepts in {out}" in lines[3]
    about = json.loads((out / "concept.json").read_text())
    assert about["method"] == "custom_diffusion"
    assert about["merged_from"] == [str(folder) for folder in folders]
    assert about["prompts"] == [["a photo of a <v1> dog"], ["a photo of a <v2> cat"]]
    assert (about["captions"], about["ridge"]) == (1000, 1e-4)
    assert about["residual_targets"] < 1e-10
    assert about["residual_regularisation"] > 0


def outputs(base, folder, prompt):
    """A prompt's keys by the concept in `folder`, and by the base's kernel."""
    model = with_concepts(from_base(base), base, [str(folder)])
    ids = tokenize(model.tokenizer, [prompt])
    text = np.asarray(jax.jit(encode)(model.denoiser, ids).text[0])
    end = int(np.argmax(ids[0] == model.tokenizer.eos)) + 1
    layer = r"unet/mid_block/.*/attn2/to_k/kernel"
    (own,) = select(model.denoiser.params, layer).values()
    (plain,) = select(from_base(base).denoiser.params, layer).values()
    return text[1:end] @ np.asarray(own), text[1:end] @ np.asarray(plain)


@pytest.mark.parametrize(
    ("k", "alone", "together", "lead"),
    [
        (0, "<v1> dog", "<v1> dog", 0),
        (0, "a photo of a <v1> dog", "a photo of a <v1> dog", 4),
        (1, "<v1> cat", "<v2> cat", 0),
        (1, "a photo of a <v1> cat", "a photo of a <v2> cat", 4),
    ],
)
def test_each_concept_has_the_keys_it_has_alone(
    emoji, folders, merged, k, alone, together, lead
):
    own, plain = outputs(emoji, folders[k], alone)
    ours, _ = outputs(emoji, merged[0], together)
    np.testing.assert_allclose(ours[lead:], own[lead:], atol=2e-5)
    assert np.abs(own[lead:] - plain[lead:]).max() > 0.05


def test_every_word_has_the_row_of_its_concept(emoji, folders, merged):
    model = with_concepts(from_base(emoji), emoji, [str(merged[0])])
    size, table = emoji.tokenizer.size, flat(model.denoiser.params)[TABLE]
    words = {other.word: other.ids for other in model.tokenizer.placeholders}
    assert words == {"<v1>": (size,), "<v2>": (size + 1,)}
    for k, folder in enumerate(folders):
        alone = with_concepts(from_base(emoji), emoji, [str(folder)]).denoiser
        row = flat(alone.params)[TABLE][size]
        np.testing.assert_array_equal(table[size + k], row)


@pytest.fixture
def refusal(emoji, monkeypatch, capsys):
    """A function that runs the command in this process and returns its error."""
    monkeypatch.setattr(
        merge, "load_named_base", lambda name, *_: emoji.replace(name=name)
    )
    return make_refusal(merge, FLAGS, monkeypatch, capsys)


def test_invalid_folders_are_refused(folders, refusal, tmp_path):
    assert "two concepts or more" in refusal(folders[0])
    assert "is the concept" in refusal(*folders, out=str(folders[1]))
    assert "holds no concept.json" in refusal(folders[0], tmp_path)
    # Saving replaces the folder, so it must be a concept.
    (tmp_path / "mine.txt").touch()
    assert "exists and is no concept" in refusal(*folders, out=str(tmp_path))


def test_captions_are_needed_and_must_span_the_text(folders, refusal, tmp_path):
    assert "needs --captions FILE" in refusal(*folders, base="other")
    (tmp_path / "few.txt").write_text("a dog\n\na cat at night\n")
    sentence = refusal(*folders, captions=str(tmp_path / "few.txt"))
    assert "The 8 rows of regularisation text span" in sentence
    (tmp_path / "few.txt").write_text("\n")
    assert "no captions" in refusal(*folders, captions=str(tmp_path / "few.txt"))


def test_a_concept_that_trains_something_else_is_refused(
    emoji, folders, refusal, tmp_path
):
    pattern = "cross_attention"
    other = save_trained(
        tmp_path / "other", emoji, 2, PROMPTS[0], pattern=pattern, train=pattern
    )
    assert "keys and values can be merged" in refusal(folders[0], other)
    second = save_trained(tmp_path / "second", emoji, 3, PROMPTS[1], before=folders[:1])
    assert "on top of another concept" in refusal(folders[0], second)


def test_placeholders_that_differ_keep_their_names():
    sources = [
        SourceConcept(None, Concept(name, "dog", (90,), (7,)), f"{name} dog", [])
        for name in ("<rex>", "<v1>")
    ]
    concepts = with_unique_words(sources, 64)
    assert [concept.placeholder for concept in concepts] == ["<rex>", "<v1>"]
    assert [concept.phrase for concept in concepts] == ["<rex> dog", "<v1> dog"]
    assert [concept.ids for concept in concepts] == [(64,), (65,)]

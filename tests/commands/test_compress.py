"""The compress command: its output, the restored concept, and its errors."""

import json
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

from personax import compress
from personax.concepts import artifact
from personax.concepts.bind import from_base
from personax.core.tree import count, flat
from personax.methods import Concept
from tests.commands.test_commands import run
from tests.commands.test_merge import save_trained
from tests.refusing import make_refusal
from tests.untrained import save_untrained

FLAGS = {
    **{"base": "emoji", "out": "/nowhere/small", "share": None, "keep_crossing": True},
    "dtype": None,
    **{"base_config": None, "variant": None, "allow_pickle": False},
}
PROMPT = "a photo of a <v1> dog"


@pytest.fixture(scope="module")
def whole(emoji, tmp_path_factory):
    """A concept of every leaf of the cross-attention: matrices and biases."""
    folder, pattern = tmp_path_factory.mktemp("concepts"), "cross_attention"
    return save_trained(
        folder / "whole", emoji, 0, PROMPT, pattern=pattern, train=pattern
    )


@pytest.fixture(scope="module")
def small(whole):
    """(the folder of the compressed concept, what the command printed)."""
    out = whole.parent / "small"
    done = run("personax.compress", whole, f"--out={out}")
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def stored(folder):
    return load_file(folder / "theta.safetensors")


def test_it_prints_size_and_error_in_one_line(small, whole):
    out, printed = small
    names, cells, last = printed.splitlines()
    assert names.split()[:4] == ["share", "kept", "ranks", "relative"]
    before, after = (count(stored(folder)) for folder in (whole, out))
    error = json.loads((out / "concept.json").read_text())["compression"]["error"]
    # The change of each kernel has rank 4.
    assert re.fullmatch(
        rf"0\.6 +0\.\d+ +[23] to [34] +{error:.3f} +{after:,} of {before:,} +.* bytes",
        cells,
    )
    assert after < before / 5
    assert f"concept in {out}" in last


def test_the_record_is_the_concept_s_with_the_compression(small, whole):
    before, after = (
        json.loads((folder / "concept.json").read_text())
        for folder in (whole, small[0])
    )
    compression = after.pop("compression")
    assert after == before
    assert (compression["share"], compression["keep_crossing"]) == (0.6, True)
    assert all(path.endswith("/kernel") for path in compression["ranks"])


def test_matrices_are_factors_and_other_leaves_are_unchanged(small, whole):
    own, leaves = stored(whole), stored(small[0])
    kinds = {name.rpartition("/")[2] for name in leaves if name.startswith("weights/")}
    assert kinds == {"svd_u", "svd_v", "bias"}
    for name, leaf in own.items():
        if not name.endswith("/kernel"):
            np.testing.assert_array_equal(leaves[name], leaf)


def test_it_is_loaded_as_whole_kernels(emoji, small, whole):
    params = from_base(emoji).denoiser.params
    own, back = (
        artifact.load(folder, params, emoji.fingerprint) for folder in (whole, small[0])
    )
    assert back.concepts == own.concepts
    own, back = flat(own.theta["weights"]), flat(back.theta["weights"])
    assert back.keys() == own.keys()
    base = flat(params)
    matrices = [path for path in own if own[path].ndim == 2]
    learned, missing = (
        np.linalg.norm([np.linalg.norm(own[path] - other[path]) for path in matrices])
        for other in (base, back)
    )
    about = json.loads((small[0] / "concept.json").read_text())
    assert 0.2 * learned < missing < 0.8 * learned
    assert missing / learned == pytest.approx(about["compression"]["error"], rel=1e-3)


@pytest.fixture
def refusal(emoji, monkeypatch, capsys):
    """A function that runs the command in this process and returns its error."""
    monkeypatch.setattr(compress, "load_named_base", lambda *_, **__: emoji)
    return make_refusal(compress, FLAGS, monkeypatch, capsys)


def test_invalid_folders_are_refused(whole, refusal, tmp_path):
    assert "One concept at a time" in refusal()
    assert "is the concept" in refusal(whole, out=str(whole))
    assert "holds no concept.json" in refusal(tmp_path)
    # Saving replaces the folder, so it must be a concept.
    (tmp_path / "mine.txt").touch()
    assert "exists and is no concept" in refusal(whole, out=str(tmp_path))


def test_a_concept_without_matrices_is_refused(emoji, refusal, tmp_path):
    pattern = r"unet/.*/attn2/to_out/0/bias"
    folder = save_trained(
        tmp_path / "other", emoji, 0, PROMPT, pattern=pattern, train=pattern
    )
    assert "there is nothing to compress" in refusal(folder)


@pytest.mark.parametrize(("dtype", "bits"), [("float16", 2), ("int8", 1)])
def test_quantized_concepts_are_loaded_as_float32(emoji, tmp_path, dtype, bits):
    concept = Concept("", "dog", (), (), "dog")
    rng = np.random.default_rng(0)

    def drawn(theta):
        return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), theta)

    theta = save_untrained(tmp_path / "whole", emoji, concept, "infusion", drawn)
    out = tmp_path / dtype
    done = run(
        "personax.compress", tmp_path / "whole", f"--dtype={dtype}", f"--out={out}"
    )
    assert done.returncode == 0, done.stderr
    assert dtype in done.stdout
    assert "bytes" in done.stdout
    assert stored(out)["residual/" + next(iter(theta["residual"]))].itemsize == bits
    loaded = artifact.load(
        out, from_base(emoji).denoiser.params, emoji.fingerprint
    ).theta
    for path, leaf in theta["residual"].items():
        step = np.abs(leaf).max() / (127 if bits == 1 else 1024)
        restored = loaded["residual"][path]
        assert restored.dtype == np.float32
        np.testing.assert_allclose(restored, leaf, atol=0.51 * step)

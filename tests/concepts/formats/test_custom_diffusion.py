"""Custom Diffusion files: strengths, merging, words beside them, what is refused."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from personax.concepts import artifact
from personax.concepts.merge import merge
from personax.core.tree import flat, select
from personax.loading.names import from_layout, torch_name
from personax.networks.tokenizer import ids_of
from tests.concepts.formats.binding import bind, refusal, save_on_top

pytestmark = pytest.mark.quick

WEIGHTS = "pytorch_custom_diffusion_weights.safetensors"
WIDTH = 16


def kernels(plain, seed):
    """{path: another kernel} of all cross-attentions."""
    rng = np.random.default_rng(seed)
    return {
        path: np.asarray(leaf) + 0.1 * rng.standard_normal(leaf.shape).astype("f4")
        for path, leaf in select(plain.denoiser.params, "kv").items()
    }


def write(folder, plain, seed=0, word="<new1>"):
    """diffusers' folder with one word; returns {path: kernel}."""
    folder.mkdir()
    trained, tensors = kernels(plain, seed), {}
    for path, kernel in trained.items():
        name = torch_name(path.removeprefix("unet/")).replace(
            "attn2.", "attn2.processor."
        )
        name = name.replace(".weight", "_custom_diffusion.weight")
        tensors[name] = np.ascontiguousarray(from_layout(path, kernel))
    save_file(tensors, folder / WEIGHTS)
    row = np.random.default_rng(seed + 50).standard_normal(WIDTH).astype("f4")
    save_file({word: row}, folder / f"{word}.safetensors")
    return trained


def test_a_strength_scales_the_kernels(plain, base, tmp_path, capsys):
    trained = write(tmp_path / "a", plain)
    model = bind(base, f"{tmp_path / 'a'}@0.5")
    own, before = flat(model.denoiser.params), flat(base.params)
    for path, kernel in trained.items():
        want = (np.asarray(before[path]) + kernel) / 2
        np.testing.assert_allclose(own[path], want, rtol=0, atol=1e-6)
    (line,) = capsys.readouterr().err.splitlines()
    count = len(trained)
    assert line.endswith(
        f"is Custom Diffusion in diffusers' layout: {count} tensors applied to {count} "
        "parameters of the UNet, the word '<new1>' (1 vector)."
    )


def test_the_words_beside_it_belong_to_the_concept(plain, base, tmp_path):
    """They are copied with it below a concept, and its digest covers them."""
    write(tmp_path / "a", plain)
    path = tmp_path / "a" / WEIGHTS
    before = artifact.digest(path)
    save_on_top(tmp_path / "concept", base, path)
    model = bind(base, tmp_path / "concept")
    assert ids_of(model.tokenizer, "<new1>") == (base.tokenizer.size,)
    save_file({"<new1>": np.ones(WIDTH, "f4")}, tmp_path / "a" / "<new1>.safetensors")
    assert artifact.digest(path) != before


def test_a_pickled_word_needs_permission(plain, base, tmp_path):
    write(tmp_path / "a", plain)
    (tmp_path / "a" / "<new1>.safetensors").rename(tmp_path / "a" / "<new1>.bin")
    line = refusal(base, tmp_path / "a")
    assert "<new1>.bin is a pickle" in line
    assert "--allow_pickle" in line


def test_two_files_are_merged_in_closed_form(plain, base, tmp_path):
    """What each concept's words ask of the kernels is kept; see `merge_kernels`."""
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        write(folder, plain, seed)
    captions = [
        f"a photo of a {word} number {i}"
        for i in range(40)
        for word in ["cat", "dog", "sun", "moon", "hat"]
    ]
    result = merge(base, folders, tmp_path / "ab", captions)
    assert result.kernels.residual_targets < 1e-3
    assert [concept.placeholder for concept in result.concepts] == ["<v1>", "<v2>"]
    about = json.loads((tmp_path / "ab" / "concept.json").read_text())
    assert about["prompts"] == [["photo of a <v1>"], ["photo of a <v2>"]]
    model = bind(base, tmp_path / "ab")
    size = base.tokenizer.size
    assert ids_of(model.tokenizer, "<v1> <v2>") == (size, size + 1)


def test_a_file_with_fewer_kernels_is_not_merged(plain, base, tmp_path):
    write(tmp_path / "a", plain)
    write(tmp_path / "b", plain)
    path = next(iter(kernels(plain, 0)))
    name = torch_name(path.removeprefix("unet/"))
    kernel = np.ascontiguousarray(from_layout(path, kernels(plain, 0)[path]))
    save_file(
        {name: kernel, "modifier_token.<v>": np.ones(WIDTH, "f4")},
        tmp_path / "delta.safetensors",
    )
    with pytest.raises(ValueError, match="only concepts that train tokens and whole"):
        merge(
            base,
            [tmp_path / "a", tmp_path / "delta.safetensors"],
            tmp_path / "c",
            ["a"],
        )


LAYER = "down_blocks.0.attentions.0.transformer_blocks.0.attn2"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            {"down_blocks.7.attentions.0.attn2.to_k.weight": np.ones((8, WIDTH), "f4")},
            "names no parameter of this base; nearest: ",
        ),
        (
            {f"{LAYER}.to_k.weight": np.ones((8, 1024), "f4")},
            "its change of unet/down_blocks/0/attentions/0/transformer_blocks/0/attn2/"
            "to_k/kernel has shape (8, 1024), the base's parameter (8, 16)",
        ),
        (
            {f"unet.{LAYER}.to_k.weight.u": np.ones((8, 2), "f4")},
            "has a factor u or v alone",
        ),
        (
            {
                f"unet.{LAYER}.to_k.weight": np.ones((8, WIDTH), "f4"),
                "modifier_token.<a>": np.ones(1024, "f4"),
            },
            "its vectors have 1024 numbers, as those of Stable Diffusion 2.x",
        ),
        (
            {f"{LAYER}.to_k.weight": np.full((8, WIDTH), np.inf, "f4")},
            "has NaN or infinite values",
        ),
    ],
)
def test_what_does_not_fit_this_base(base, tmp_path, tensors, message):
    path = tmp_path / "delta.safetensors"
    save_file(tensors, path)
    line = refusal(base, path)
    assert f"{path} looks like Custom Diffusion" in line
    assert message in line

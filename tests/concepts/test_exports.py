"""The formats of exports by the rules of the programs that read them, without torch.

A1111's and ComfyUI's loaders cannot be installed here. Their rules are written out as
tables: which name of a file means which tensor of a single-file checkpoint.
"""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.concepts.bind import from_base, with_concepts
from personax.concepts.export import export
from personax.concepts.exports.changes import Changes, find_changes
from personax.concepts.exports.factors import nearest
from personax.concepts.exports.kohya import kohya_name
from personax.concepts.exports.request import Request, embeddings_folder
from personax.concepts.exports.single_file import ldm_tensors
from personax.core.tree import flat, nest
from personax.loading import load_base
from personax.loading.ldm import ldm_names
from personax.loading.write import cast
from personax.methods.parts.tokens import TABLE
from personax.networks.clip_text import CLIPTextConfig
from personax.networks.tokenizer import ids_of, tokenize, unknown_placeholders
from personax.networks.unet import UNetConfig
from tests.exporting import World
from tests.loading.make import shapes, write_pipeline

ROUNDING = 1e-6  # of parameters, which are of order 0.1 to 1

# A1111: kohya's names in a UNet of SD 1.5's geometry, two layers a block.
_INSIDE = {
    **{"conv1": "in_layers_2", "conv2": "out_layers_3", "norm1": "in_layers_0"},
    **{"norm2": "out_layers_0", "time_emb_proj": "emb_layers_1"},
    "conv_shortcut": "skip_connection",
}
A1111 = (
    (r"conv_in", lambda: "input_blocks_0_0"),
    (r"conv_out", lambda: "out_2"),
    (r"time_embedding_linear_(\d)", lambda i: f"time_embed_{2 * int(i) - 2}"),
    (
        r"down_blocks_(\d)_attentions_(\d)_(.+)",
        lambda i, j, x: f"input_blocks_{3 * int(i) + int(j) + 1}_1_{x}",
    ),
    (
        r"down_blocks_(\d)_resnets_(\d)_(.+)",
        lambda i, j, x: f"input_blocks_{3 * int(i) + int(j) + 1}_0_{_INSIDE[x]}",
    ),
    (r"mid_block_attentions_0_(.+)", lambda x: f"middle_block_1_{x}"),
    (
        r"mid_block_resnets_(\d)_(.+)",
        lambda i, x: f"middle_block_{2 * int(i)}_{_INSIDE[x]}",
    ),
    (
        r"up_blocks_(\d)_attentions_(\d)_(.+)",
        lambda i, j, x: f"output_blocks_{3 * int(i) + int(j)}_1_{x}",
    ),
    (
        r"up_blocks_(\d)_resnets_(\d)_(.+)",
        lambda i, j, x: f"output_blocks_{3 * int(i) + int(j)}_0_{_INSIDE[x]}",
    ),
    (
        r"down_blocks_(\d)_downsamplers_0_conv",
        lambda i: f"input_blocks_{3 * int(i) + 3}_0_op",
    ),
    (
        r"up_blocks_(\d)_upsamplers_0_conv",
        lambda i: f"output_blocks_{3 * int(i) + 2}_{1 if i == '0' else 2}_conv",
    ),
)
# ComfyUI: the modules of a layer of the text encoder that have a name.
COMFYUI_TEXT = ("self_attn_q_proj", "self_attn_k_proj", "self_attn_v_proj")
COMFYUI_TEXT += ("self_attn_out_proj", "mlp_fc1", "mlp_fc2")


def a1111_name(name):
    """The module of a checkpoint's UNet that A1111 finds for a key; None for none."""
    for pattern, rename in A1111:
        match = re.fullmatch(f"lora_unet_{pattern}", name)
        if match:
            return rename(*match.groups())
    return None


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("formats"))


def weights(model, base):
    """{name of a single-file checkpoint: array} of a model."""
    changes = find_changes(model, base)
    params = {**base.params, "unet": {}, "text_encoder": {}}
    params |= nest(changes.after)
    return ldm_tensors(params, base.spec, "float32")


def targets(world):
    """ComfyUI's key map: {kohya's name: the checkpoint's name of the weight}."""
    config, found = world.base.spec.unet, {}
    paths = [path for path in flat(world.base.params["unet"]) if "/bias" not in path]
    for path, name in ldm_names("unet", paths, config).items():
        found["lora_unet_" + path.rpartition("/")[0].replace("/", "_")] = name
    for i in range(world.base.spec.text_encoder.num_hidden_layers):
        for module in COMFYUI_TEXT:
            dotted = re.sub(r"(attn|mlp)_", r"\1.", module)
            found[f"lora_te_text_model_encoder_layers_{i}_{module}"] = (
                f"cond_stage_model.transformer.text_model.encoder.layers.{i}.{dotted}"
                ".weight"
            )
    return found


def load(world, path):
    """(the base's checkpoint with a file applied by ComfyUI's rules, unread keys)."""
    state = weights(from_base(world.base), world.base)
    file, names = load_file(path), targets(world)
    for module, name in names.items():
        if f"{module}.lora_up.weight" in file:
            up, down = (file.pop(f"{module}.lora_{x}.weight") for x in ("up", "down"))
            scale = file.pop(f"{module}.alpha") / len(down)
            delta = up.reshape(len(up), -1) @ down.reshape(len(down), -1)
            state[name] = state[name] + scale * delta.reshape(state[name].shape)
        if f"{module}.diff" in file:
            state[name] = state[name] + file.pop(f"{module}.diff")
        if f"{module}.diff_b" in file:
            bias = name.removesuffix("weight") + "bias"
            state[bias] = state[bias] + file.pop(f"{module}.diff_b")
    return state, file


def test_a1111_finds_every_module_of_sd15():
    config = UNetConfig()
    names = ldm_names("unet", shapes("unet", config), config)
    for path, name in names.items():
        want = name.removeprefix("model.diffusion_model.").rpartition(".")[0]
        found = a1111_name(kohya_name(f"unet/{path}"))
        if path.startswith("conv_norm_out/"):
            assert found is None  # the one module that A1111 has no rule for
        else:
            assert found == want.replace(".", "_"), path
    for path in shapes("text_encoder", CLIPTextConfig()):
        name = kohya_name(f"text_encoder/{path}")
        assert name == "lora_te_" + path.rpartition("/")[0].replace("/", "_")


@pytest.mark.parametrize("names", [("lora",), ("lora@0.5", "lora_next@-2")], ids=str)
def test_a_lora_by_comfyuis_rules(world, names):
    out = world.folder / f"{len(names)}.safetensors"
    exported = world.export(out, *names, to="lora")
    assert "have the factors that were trained" in exported.notes[1]
    found, unread = load(world, out)
    assert not unread
    want = weights(world.bound(*names), world.base)
    for name, array in want.items():
        np.testing.assert_allclose(found[name], array, atol=ROUNDING, err_msg=name)


def test_differences_by_comfyuis_rules(world):
    out = world.folder / "diff.safetensors"
    exported = world.export(out, "dreambooth", to="diff")
    found, unread = load(world, out)
    want = weights(world.bound("dreambooth"), world.base)
    differing = {
        name
        for name, array in want.items()
        if np.abs(found[name] - array).max() > ROUNDING
    }
    # Norms and embeddings of the text encoder: each is in the file, and said.
    assert all("cond_stage_model" in name for name in differing)
    assert len(unread) == len(differing) == 12
    assert "12 of these" in exported.notes[-1]


def test_a_lora_comes_back_with_the_bytes_of_theta(world):
    out = world.folder / "back.safetensors"
    world.export(out, "lora", to="lora")
    file = load_file(out)
    theta = load_file(world.folder / "lora" / "theta.safetensors")
    seen = 0
    for name, array in theta.items():
        path, leaf = name.removeprefix("lora/").rsplit("/", 1)
        key = {"lora_A": "lora_down", "lora_B": "lora_up"}[leaf]
        theirs = file[f"{kohya_name(path)}.{key}.weight"]
        theirs = theirs.reshape(theirs.shape[:2]) if leaf == "lora_B" else theirs
        axes = {2: (1, 0), 4: (2, 3, 1, 0)}[theirs.ndim]
        np.testing.assert_array_equal(theirs.transpose(axes), array)
        assert file[f"{kohya_name(path)}.alpha"] == 6
        seen += 1
    assert seen == 2 * 81
    again = with_concepts(from_base(world.base), world.base, [str(out)])
    want = flat(world.bound("lora").denoiser.params)
    for path, leaf in flat(again.denoiser.params).items():
        np.testing.assert_allclose(leaf, want[path], atol=ROUNDING, err_msg=path)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (3, 3, 4, 7)], ids=str)
def test_the_nearest_factors_are_the_truncated_svd(shape):
    delta = np.random.default_rng(0).standard_normal(shape, np.float32)
    matrix = delta.reshape(-1, shape[-1]).astype(np.float64)
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    for rank in (2, 100):
        factors, remainder = nearest(delta, rank)
        r = min(rank, len(s))
        want = (u[:, :r] * s[:r]) @ v[:r]
        assert factors.rank == r
        product = factors.product().reshape(want.shape)
        np.testing.assert_allclose(product, want, atol=2e-6)
        np.testing.assert_allclose(remainder, np.square(s[r:]).sum(), atol=1e-9)
    zero, remainder = nearest(np.zeros(shape, np.float32), 2)
    assert not zero.product().any()
    assert remainder == 0


def test_the_residual_is_that_of_the_file(world):
    out = world.folder / "rank2.safetensors"
    exported = world.export(out, "custom", to="lora", rank=2)
    (said,) = re.findall(
        r"rank 2 by SVD, relative residual (\S+)\.$", exported.notes[1]
    )
    found, _ = load(world, out)
    want = weights(world.bound("custom"), world.base)
    plain = weights(from_base(world.base), world.base)
    lost, total = (
        sum(np.square(want[name] - other[name]).sum() for name in want)
        for other in (found, plain)
    )
    np.testing.assert_allclose(float(said), np.sqrt(lost / total), rtol=5e-3)
    assert 0.3 < float(said) < 0.9


def test_words_are_files_that_every_program_reads(world):
    world.export("lora_words.safetensors", "custom", to="lora-peft")
    (file,) = embeddings_folder(world.folder / "lora_words.safetensors").iterdir()
    assert file.name == "v1.safetensors"
    theta = load_file(world.folder / "custom" / "theta.safetensors")
    # One key: A1111 and ComfyUI take it whatever its name is, diffusers as the token.
    np.testing.assert_array_equal(load_file(file)["<v1>"], theta["tokens/embedding"])
    world.export("embeddings", "word", to="embedding")
    web = load_file(world.folder / "embeddings" / "a1111" / "v1.safetensors")
    assert web.keys() == {"emb_params"}
    assert web["emb_params"].shape == (1, 16)
    one = load_file(world.folder / "embeddings" / "diffusers" / "v1.safetensors")
    assert one["<v1>"].shape == (16,)


def test_a_tokenizer_in_every_file(world):
    world.export("tokens", "custom")
    folder = world.folder / "tokens" / "tokenizer"
    vocabulary = json.loads((folder / "vocab.json").read_text())
    assert len(vocabulary) == 1212
    merges = (folder / "merges.txt").read_text().splitlines()
    assert merges[0].startswith("#version")
    assert len(merges) > 100
    assert all(len(line.split(" ")) == 2 for line in merges[1:])
    added = {"<v1>": 1212, "<v1>_1": 1213}
    assert json.loads((folder / "added_tokens.json").read_text()) == added
    whole = json.loads((folder / "tokenizer.json").read_text())
    own = {each["content"]: each["id"] for each in whole["added_tokens"][2:]}
    assert own == added
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["added_tokens_decoder"]["1213"]["content"] == "<v1>_1"
    again = load_base(world.folder / "tokens")
    assert again.tokenizer.size == 1214
    rows = flat(again.params)[TABLE]
    theta = load_file(world.folder / "custom" / "theta.safetensors")
    np.testing.assert_array_equal(rows[1212:], theta["tokens/embedding"])
    prompts = ["a photo of a <V1> dog", "<v1>_1"]
    assert not unknown_placeholders(again.tokenizer, prompts)
    bound = world.bound("custom").tokenizer
    expected = tokenize(bound, prompts[:1])
    np.testing.assert_array_equal(tokenize(again.tokenizer, prompts[:1]), expected)
    assert ids_of(again.tokenizer, "<v1>_1") == (1213,)


def test_a_base_with_words_is_exported_with_each_once(world):
    world.export("worded", "custom")
    base = load_base(world.folder / "worded")
    out = world.folder / "worded_again"
    export(from_base(base), base, Request(out))
    again = load_base(out)
    assert again.tokenizer.placeholders == base.tokenizer.placeholders
    assert again.fingerprint == base.fingerprint


def test_a_word_of_two_names_is_one_word(world):
    rows = np.ones((2, 16), np.float32)
    path = world.folder / "my-toy.safetensors"
    save_file({"<cat-toy>": rows}, path)
    model = with_concepts(from_base(world.base), world.base, [str(path)])
    out = world.folder / "toy"
    export(model, world.base, Request(out, to="embedding"))
    names = [each.name for each in (out / "diffusers").iterdir()]
    assert names == ["cat-toy.safetensors"]


def test_a_single_file_of_2x_has_openclips_names(tmp_path):
    write_pipeline(tmp_path / "base", smallest=True)
    path = tmp_path / "base" / "text_encoder" / "config.json"
    config = {**json.loads(path.read_text()), "hidden_act": "gelu"}
    path.write_text(json.dumps(config))
    path = tmp_path / "base" / "scheduler" / "scheduler_config.json"
    config = {**json.loads(path.read_text()), "prediction_type": "v_prediction"}
    path.write_text(json.dumps(config))
    base = load_base(tmp_path / "base")
    tensors = ldm_tensors(base.params, base.spec, "float32")
    assert "v_pred" in tensors
    fused = "cond_stage_model.model.transformer.resblocks.0.attn.in_proj_weight"
    assert tensors[fused].shape == (48, 16)
    save_file(tensors, tmp_path / "x.safetensors")
    again = load_base(tmp_path / "x.safetensors", config=tmp_path / "base")
    assert again.fingerprint == base.fingerprint


@pytest.mark.parametrize(
    ("name", "to", "sentence"),
    [
        ("infusion", "lora", "adds residuals to the values of cross-attention"),
        ("infusion", "embedding", "no trained word to export; personax.sample"),
        ("prospect", "diffusers", "embeddings that depend on the timestep"),
        (
            "word",
            "lora",
            "no weights that --to lora could hold; --to embedding",
        ),
        ("word", "custom-diffusion", "--to embedding holds its words"),
        (
            "lora_next",
            "embedding",
            "no trained word to export; --to lora and",
        ),
        ("lora", "custom-diffusion", "outside the cross-attentions, first"),
    ],
)
def test_what_cannot_leave_says_why_and_what_can(world, name, to, sentence):
    out = world.folder / f"{name}_{to}.safetensors"
    with pytest.raises(ValueError, match=re.escape(sentence)):
        world.export(out, name, to=to)
    assert not out.exists()
    assert not embeddings_folder(out).exists()


def test_a_word_without_its_weights_is_said(world):
    exported = world.export("half", "custom", to="embedding")
    assert "also changes weights, which are not in these files" in exported.notes[-1]


def test_numbers_that_float16_cannot_hold_are_refused():
    with pytest.raises(ValueError, match=r"7e\+04, more than float16 can hold"):
        cast("conv_in", np.array([7e4, 0], np.float32), "float16")
    assert cast("conv_in", np.array([7e4], np.float32), "bfloat16")[0] > 6e4


def test_an_unchanged_parameter_is_not_written():
    leaf = np.ones((2, 2), np.float32)
    same, moved = leaf.copy(), leaf + 1
    before = {"unet/a/kernel": leaf, "unet/b/kernel": leaf, "unet/c/kernel": leaf}
    after = {"unet/a/kernel": leaf, "unet/b/kernel": same, "unet/c/kernel": moved}
    assert Changes(before, after).paths == ["unet/c/kernel"]


def test_a_merge_is_the_sum_of_the_changes(world):
    both = find_changes(world.bound("lora@0.5", "<v2>=custom@2"), world.base)
    own = [find_changes(world.bound(name), world.base) for name in ("lora", "custom")]
    for path in both.paths:
        want = 0.5 * own[0].delta(path) + 2 * own[1].delta(path)
        np.testing.assert_allclose(both.delta(path), want, atol=ROUNDING)
    assert [word.token for word in both.words] == ["<v1>", "<v2>"]

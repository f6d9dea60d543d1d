"""Adapters' files: what is applied, at which strength, and what is refused."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.concepts import artifact
from personax.core.tree import flat
from personax.methods import Concept
from tests.concepts.formats.binding import bind, refusal
from tests.concepts.formats.write import (
    CONV,
    KEYS,
    QUERY,
    changes_of,
    factors,
    kohya_name,
    shape_of,
    write_lora,
)
from tests.untrained import save_untrained

pytestmark = pytest.mark.quick


@pytest.fixture
def file(tmp_path):
    return tmp_path / "style.safetensors"


def test_the_change_is_alpha_over_rank_times_up_down(plain, base, file):
    want = write_lora(file, base.params, KEYS, CONV, QUERY, alpha=0.5)
    model = bind(base, file)
    for path, change in want.items():
        own = changes_of(model, base, path)
        np.testing.assert_allclose(own, change, rtol=0, atol=1e-5, err_msg=path)
    same = [
        path
        for path, leaf in flat(model.denoiser.params).items()
        if leaf is flat(plain.denoiser.params)[path]
    ]
    assert len(same) == len(flat(plain.denoiser.params)) - len(want)


def test_what_was_applied_is_said_in_one_line(base, file, capsys):
    write_lora(file, base.params, KEYS, CONV, QUERY)
    bind(base, file)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"personax: {file} is a LoRA in kohya's names: 9 tensors")
    assert "2 parameters of the UNet, 1 parameters of the text encoder" in line


def test_without_alpha_the_factor_is_one(base, file):
    write_lora(file, base.params, KEYS)
    tensors = load_file(file)
    del tensors[f"{kohya_name(KEYS)}.alpha"]
    save_file(tensors, file)
    down, up = factors(base.params, KEYS)
    own = changes_of(bind(base, file), base, KEYS)
    np.testing.assert_allclose(own, up @ down, rtol=0, atol=1e-5)


def test_locon_s_core_is_a_composition_of_convolutions(base, file):
    """Tucker's form: 1x1 down, 3x3 core, 1x1 up, applied to an impulse each."""
    rng = np.random.default_rng(0)
    out, inputs, *window = shape_of(base.params, CONV)
    down = rng.standard_normal((2, inputs, 1, 1), np.float32)
    core = rng.standard_normal((3, 2, *window), np.float32)
    up = rng.standard_normal((out, 3, 1, 1), np.float32)
    name = kohya_name(CONV)
    tensors = {"lora_down": down, "lora_mid": core, "lora_up": up}
    save_file({f"{name}.{k}.weight": x for k, x in tensors.items()}, file)
    want = np.zeros((out, inputs, *window), np.float32)
    for i in range(inputs):
        hidden = down[:, i, 0, 0]
        middle = hidden[0] * core[:, 0] + hidden[1] * core[:, 1]
        for p in range(3):
            want[:, i] += up[:, p, 0, 0, None, None] * middle[p]
    own = changes_of(bind(base, file), base, CONV)
    np.testing.assert_allclose(own, want, rtol=0, atol=1e-5)


def test_a_strength_scales_the_change(base, file):
    want = write_lora(file, base.params, KEYS, QUERY)
    for strength in (0.25, -1.0, 0.0):
        model = bind(base, f"{file}@{strength}")
        for path, change in want.items():
            own = changes_of(model, base, path)
            np.testing.assert_allclose(own, strength * change, rtol=0, atol=1e-5)


def test_a_file_with_an_at_in_its_name_is_taken_as_it_is(base, tmp_path):

    file = tmp_path / "style@0.5.safetensors"
    want = write_lora(file, base.params, KEYS)
    own = changes_of(bind(base, file), base, KEYS)
    np.testing.assert_allclose(own, want[KEYS], rtol=0, atol=1e-5)


def test_a_strength_that_is_no_number_is_refused(base, file):
    write_lora(file, base.params, KEYS)
    line = refusal(base, f"{file}@strong")
    assert "the strength 'strong' is not a number such as 0.7" in line


def test_files_and_concepts_are_summed(base, file, tmp_path):
    want = write_lora(file, base.params, KEYS)
    dog = Concept("", "dog", (), (), "dog")
    theta = save_untrained(
        tmp_path / "dog",
        base,
        dog,
        "lora",
        lambda theta: {"lora": {k: _ones(v) for k, v in theta["lora"].items()}},
    )
    model = bind(base, f"{file}@2", f"{tmp_path / 'dog'}@0.5")
    own = theta["lora"][KEYS]
    change = 0.5 * (own["lora_A"] @ own["lora_B"]).T + 2 * want[KEYS]
    np.testing.assert_allclose(changes_of(model, base, KEYS), change, rtol=0, atol=1e-4)


def _ones(leaves):
    return {name: 0 * leaf + 1 for name, leaf in leaves.items()}


def test_a_concept_trained_on_top_of_a_file_holds_it(base, file, tmp_path):
    want = write_lora(file, base.params, KEYS)
    artifact.save(
        tmp_path / "late",
        {"lora": {}},
        [],
        method="lora",
        method_args={},
        base=base.name,
        fingerprint=base.fingerprint,
        before=[f"{file}@0.5"],
    )
    (earlier,) = artifact.earlier(tmp_path / "late")
    assert (earlier.path.name, earlier.strength) == (file.name, 0.5)
    file.unlink()
    model = bind(base, earlier)
    own = changes_of(model, base, KEYS)
    np.testing.assert_allclose(own, 0.5 * want[KEYS], rtol=0, atol=1e-5)


def test_numbered_modules_are_found_by_order_and_shape(base, file):
    """cloneofsimo's files: down, up, middle; attn1, ff, attn2 in each layer."""
    modules = []
    for block in ("down_blocks/0", "up_blocks/1", "mid_block"):
        count = 2 if block.startswith("up") else 1
        for i in range(count):
            layer = f"unet/{block}/attentions/{i}/transformer_blocks/0"
            inner = ("to_q", "to_k", "to_v", "to_out/0")
            modules += [f"{layer}/attn1/{each}" for each in inner]
            modules += [f"{layer}/ff/net/0/proj"]
            modules += [f"{layer}/attn2/{each}" for each in inner]
    tensors, want = {}, {}
    for i, module in enumerate(modules):
        path = f"{module}/kernel"
        down, up = factors(base.params, path, seed=i)
        tensors |= {f"unet:{i}:down": down, f"unet:{i}:up": up}
        want[path] = up @ down
    rows = np.ones((1, 16), np.float32)
    metadata = {"unet": json.dumps(["CrossAttention", "GEGLU"]), "<s1>": "<embed>"}
    save_file({**tensors, "<s1>": rows}, file, metadata)
    model = bind(base, file)
    for path, change in want.items():
        own = changes_of(model, base, path)
        np.testing.assert_allclose(own, change, rtol=0, atol=1e-5, err_msg=path)
    assert model.concepts[0].placeholder == "<s1>"
    del tensors["unet:0:up"]
    save_file(tensors, file)
    assert "unet:0 has lora_down alone" in refusal(base, file)


def test_a_hand_broken_file_names_the_module_that_does_not_exist(base, file):
    """A real one has the prefix twice, an underscore before lora_down and no alpha."""
    down, up = factors(base.params, KEYS)
    name = kohya_name(KEYS).replace("lora_unet_", "lora_unet_unet_")
    tensors = {f"{name}_lora_down.weight": down, f"{name}_lora_up.weight": up}
    save_file(tensors, file)
    line = refusal(base, file)
    assert line.startswith(f"{file} looks like a LoRA in kohya's names: ")
    assert "expected MODULE.lora_down.weight" in line
    tensors = {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
    save_file(tensors, file)
    line = refusal(base, file)
    assert f"{name} names no module of this base; nearest: down_blocks_0" in line


def test_a_lora_of_another_model_is_told_apart(base, file):
    name = "lora_te2_text_model_encoder_layers_0_self_attn_q_proj"
    save_file({f"{name}.lora_down.weight": np.ones((2, 3), np.float32)}, file)
    assert "belongs to Stable Diffusion XL" in refusal(base, file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t, n: t.pop(f"{n}.lora_up.weight"),
            "lora_down without its counterpart",
        ),
        (
            lambda t, n: t.pop(f"{n}.lora_down.weight"),
            "lora_up without its counterpart",
        ),
        (
            lambda t, n: t.update({f"{n}.lora_up.weight": np.ones((8, 5), "f4")}),
            r"its factors \(8, 5\) and \(2, 16\) do not fit",
        ),
        (
            lambda t, n: t.update({f"{n}.lora_down.weight": np.ones((2, 5), "f4")}),
            "its change does not fit unet/down_blocks/0.*of shape",
        ),
        (  # up and down exchanged: as many numbers, of another kernel
            lambda t, n: t.update(
                {
                    f"{n}.lora_up.weight": np.ones((16, 2), "f4"),
                    f"{n}.lora_down.weight": np.ones((2, 8), "f4"),
                }
            ),
            r"does not fit unet/down_blocks/0.*\(8, 16\): it has shape \(16, 8\)",
        ),
        (
            lambda t, n: t.update({f"{n}.lokr_w1_a": np.ones((4, 2), "f4")}),
            "of which lokr_w1_a have no meaning together",
        ),
        (
            lambda t, n: t.update({f"{n}.alpha": np.array(np.nan, "f4")}),
            "alpha has NaN or infinite values",
        ),
        (
            lambda t, n: t.update({f"{n}.alpha": np.ones(2, "f4")}),
            r"alpha has shape \(2,\), not one number",
        ),
        (
            lambda t, n: t.update({f"{n}.lora_sideways.weight": np.ones(2, "f4")}),
            "lora_sideways.weight is not a key of it",
        ),
    ],
)
def test_a_damaged_file_is_refused_as_a_whole(base, file, change, said):
    write_lora(file, base.params, KEYS, QUERY)
    tensors = load_file(file)
    change(tensors, kohya_name(KEYS))
    save_file(tensors, file)
    line = refusal(base, file)
    assert line.startswith(f"{file} looks like a Lo"), line
    assert re.search(said, line), line


def test_other_files_are_refused_by_what_they_are(base, file, tmp_path):
    save_file({"a.b": np.ones(1, np.float32)}, file)
    assert "is of no known format: it holds 1 tensors such as a.b" in refusal(
        base, file
    )
    key = "model.diffusion_model.input_blocks.0.0.weight"
    save_file({key: np.ones(1, np.float32)}, file)
    assert "a whole network" in refusal(base, file)
    write_lora(file, base.params, KEYS)
    file.write_bytes(file.read_bytes()[:-5])
    assert "is truncated" in refusal(base, file)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(FileNotFoundError, match="neither a concept's folder nor"):
        bind(base, tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError, match=r"gone\.safetensors"):
        bind(base, tmp_path / "gone.safetensors@0.5")

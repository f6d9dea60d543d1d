"""`load_base`: what a directory gives, and the errors for incomplete ones."""

import json
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from safetensors.numpy import load_file, save_file

from personax.core.tree import count, flat
from personax.loading import load_base, place
from personax.loading.names import torch_name
from tests.loading import make
from tests.small_configs import PIPELINE


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("base") / "pipeline"
    return directory, make.write_pipeline(directory)


@pytest.fixture
def pipeline(written, tmp_path):
    """A copy that a test may spoil."""
    shutil.copytree(written[0], tmp_path / "pipeline")
    return tmp_path / "pipeline"


def _expected(path: str, tensor: np.ndarray) -> np.ndarray:
    if not path.endswith("kernel"):
        return tensor
    return (
        tensor.T
        if tensor.ndim == 2
        else np.moveaxis(tensor, (2, 3), (0, 1)).swapaxes(2, 3)
    )


def _assert_holds(params, states):
    for part, tensors in states.items():
        for path, leaf in flat(params[part]).items():
            np.testing.assert_array_equal(
                leaf, _expected(path, tensors[torch_name(path)])
            )


def _edit(path, change):
    tensors = {name: np.array(tensor) for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)


def _configure(directory, part, **options):
    path = directory / part / "config.json"
    path.write_text(json.dumps({**PIPELINE[part], **options}))


def test_a_directory_gives_its_tensors_under_our_paths(written):
    directory, states = written
    base = load_base(directory)
    assert {part: set(flat(tree)) for part, tree in base.params.items()} == {
        part: set(make.template(part)) for part in states
    }
    _assert_holds(base.params, states)
    assert base.name == str(directory)
    assert base.spec.unet.block_out_channels == (8, 16)
    assert base.spec.schedule.beta_end == 0.012
    assert (base.tokenizer.size, base.tokenizer.length) == (1212, 32)


@pytest.mark.parametrize("source", [None, "emoji"])
def test_the_embedded_model_is_the_default(source):
    base = load_base(source)
    counts = {part: count(tree) for part, tree in base.params.items()}
    assert counts == {"unet": 9488072, "vae": 2583563, "text_encoder": 952576}
    assert base.name == "emoji"


def test_a_base_is_a_pytree_with_static_configs(written):
    base = load_base(written[0])
    copied = jax.tree.map(np.asarray, base)
    assert copied.spec == base.spec
    assert jax.tree.structure(copied) == jax.tree.structure(load_base(written[0]))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_parameters_are_in_the_dtype_that_was_asked_for(dtype, written):
    directory, states = written
    base = load_base(directory, param_dtype=dtype)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(base.params)} == {dtype}
    kernel = base.params["unet"]["conv_in"]["kernel"]
    expected = states["unet"]["conv_in.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected.astype(jnp.dtype(dtype)))


def test_bfloat16_files_are_read(written, pipeline):
    path = pipeline / "unet" / make.FILES["unet"]
    _edit(
        path,
        lambda t: t.update({k: v.astype(ml_dtypes.bfloat16) for k, v in t.items()}),
    )
    kernel = load_base(pipeline).params["unet"]["conv_in"]["kernel"]
    expected = written[1]["unet"]["conv_in.weight"].astype(ml_dtypes.bfloat16)
    np.testing.assert_array_equal(kernel, expected.astype("f4").transpose(2, 3, 1, 0))


def test_parameters_go_to_the_sharding_of_their_path(written):
    directory, states = written
    mesh = Mesh(np.array(jax.devices()), ("data",))
    split = NamedSharding(mesh, PartitionSpec("data"))
    whole = NamedSharding(mesh, PartitionSpec())
    rows = {"text_encoder/text_model/embeddings/position_embedding/embedding"}
    asked = []

    def sharding(path, shape):
        asked.append(path)
        return split if path in rows else whole

    base = load_base(directory, sharding=sharding)
    leaves = flat(base.params)
    assert set(asked) == set(leaves)
    for path, leaf in leaves.items():
        assert leaf.sharding == (split if path in rows else whole)
    _assert_holds(base.params, states)
    one = load_base(directory, sharding=whole)
    assert all(leaf.sharding == whole for leaf in jax.tree.leaves(one.params))


def test_the_host_holds_one_tensor_at_a_time(written, monkeypatch):
    """Each copy out of the file is on its device before the next is made."""
    pending, most, copies = [], 0, 0
    copy, put = place._copy, jax.device_put

    def counting_copy(view, dtype):
        nonlocal most, copies
        assert not view.flags.owndata, "the tensor was copied before"
        pending.append(view.size)
        copies, most = copies + 1, max(most, len(pending))
        return copy(view, dtype)

    def counting_put(array):
        pending.pop()
        return put(array)

    monkeypatch.setattr(place, "_copy", counting_copy)
    monkeypatch.setattr(place.jax, "device_put", counting_put)
    base = load_base(written[0])
    assert copies == len(jax.tree.leaves(base.params))
    assert most == 1


def test_a_change_of_the_file_does_not_reach_the_parameters(pipeline):
    base = load_base(pipeline)
    before = np.array(base.params["unet"]["conv_in"]["bias"])
    path = pipeline / "unet" / make.FILES["unet"]
    with path.open("r+b") as file:  # in place: the mapped pages change
        file.seek(-4096, 2)
        file.write(bytes(4096))
    np.testing.assert_array_equal(base.params["unet"]["conv_in"]["bias"], before)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_the_fingerprint_sees_one_changed_number(part, written, pipeline):
    same = load_base(pipeline).fingerprint
    assert same == load_base(written[0]).fingerprint

    def change(tensors):
        name = max(tensors, key=lambda name: tensors[name].size)
        tensors[name].flat[tensors[name].size // 2] += 1e-3

    _edit(pipeline / part / make.FILES[part], change)
    assert load_base(pipeline).fingerprint != same


def test_all_that_does_not_fit_is_named_in_one_error(pipeline):
    def change(tensors):
        del tensors["conv_in.weight"]
        tensors["conv_out.bias"] = np.zeros(7, "f4")
        tensors["conv_norm_out.scale"] = np.zeros(8, "f4")

    _edit(pipeline / "unet" / make.FILES["unet"], change)
    _edit(
        pipeline / "vae" / make.FILES["vae"],
        lambda tensors: tensors.pop("quant_conv.bias"),
    )
    with pytest.raises(ValueError, match="do not fit") as caught:
        load_base(pipeline)
    message = str(caught.value)
    assert "2 missing (unet/conv_in.weight; vae/quant_conv.bias)" in message
    assert "1 extra (unet/conv_norm_out.scale)" in message
    assert "1 misshapen (unet/conv_out.bias (7,) instead of (4,))" in message
    assert "\n" not in message


def test_a_long_list_of_names_is_cut_with_its_count(pipeline):
    def change(tensors):
        for name in [name for name in tensors if name.startswith("down_blocks")]:
            del tensors[name]

    _edit(pipeline / "unet" / make.FILES["unet"], change)
    with pytest.raises(ValueError, match=r"\d+ missing \(.*; and \d+ more\)") as caught:
        load_base(pipeline)
    assert str(caught.value).count("unet/down_blocks") == 8


def test_both_dialects_of_clip_give_the_same_base(written, pipeline):
    def flatten(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("text_model.")] = tensors.pop(name)

    _edit(pipeline / "text_encoder" / make.FILES["text_encoder"], flatten)
    assert load_base(pipeline).fingerprint == load_base(written[0]).fingerprint


def test_what_no_network_reads_is_ignored_knowingly(written, pipeline):
    def change(tensors):
        tensors["text_model.embeddings.position_ids"] = np.arange(32)[None]
        tensors["vision_model.post_layernorm.bias"] = np.zeros(3, "f4")
        tensors["logit_scale"] = np.zeros((), "f4")

    _edit(pipeline / "text_encoder" / make.FILES["text_encoder"], change)
    assert load_base(pipeline).fingerprint == load_base(written[0]).fingerprint


def test_the_old_names_of_the_autoencoders_attention_are_read(written, pipeline):
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def change(tensors):
        for name in [name for name in tensors if ".attentions." in name]:
            renamed = name
            for new, former in old.items():
                renamed = renamed.replace(f".{new}.", f".{former}.")
            tensors[renamed] = tensors.pop(name)
        assert "encoder.mid_block.attentions.0.proj_attn.bias" in tensors

    _edit(pipeline / "vae" / make.FILES["vae"], change)
    assert load_base(pipeline).fingerprint == load_base(written[0]).fingerprint


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: shutil.rmtree(d / "unet"), r"unet/config\.json is missing"),
        (lambda d: (d / "vae" / "config.json").write_text("{"), "is not valid JSON"),
        (lambda d: shutil.rmtree(d / "scheduler"), "scheduler_config.json is missing"),
        (lambda d: shutil.rmtree(d / "tokenizer"), "no CLIP tokenizer"),
        (
            lambda d: (d / "scheduler" / "scheduler_config.json").write_text(
                '{"_class_name": ["DDIMScheduler"]}'
            ),
            r"scheduler_config\.json: its _class_name is not the name of a scheduler",
        ),
        (
            lambda d: (d / "vae" / make.FILES["vae"]).unlink(),
            r"has no diffusion_pytorch_model\.safetensors; it has config\.json",
        ),
        (
            lambda d: (d / "unet" / make.FILES["unet"]).write_bytes(b""),
            "not a safetensors file: it has 0 bytes",
        ),
        (
            lambda d: _configure(d, "unet", dual_cross_attention=True),
            "dual_cross_attention=True",
        ),
        (
            lambda d: (d / "vae" / make.FILES["vae"]).write_text(
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
            ),
            r"vae/diffusion_pytorch_model\.safetensors is a git-lfs pointer",
        ),
        (
            lambda d: _configure(d, "unet", norm_eps=None),
            r"unet/config\.json: The UNet's norm_eps is null; expected a positive",
        ),
        (
            lambda d: _configure(d, "unet", in_channels=5),
            r"in_channels is 5, .* latent_channels 4: .* depth maps, .* inpainting",
        ),
        (
            lambda d: _configure(d, "unet", in_channels=8),
            r"in_channels is 8, .* latent_channels 4: .*\(InstructPix2Pix\)",
        ),
        (
            lambda d: _configure(d, "unet", out_channels=8),
            "out_channels is 8, the autoencoder's latent_channels 4",
        ),
        (
            lambda d: _configure(d, "vae", latent_channels=16),
            "in_channels is 4, the autoencoder's latent_channels 16",
        ),
        (
            lambda d: _configure(d, "text_encoder", hidden_size=40),
            "cross_attention_dim is 16, the text encoder's hidden_size 40",
        ),
        (
            lambda d: _configure(d, "vae", in_channels=4),
            "autoencoder's in_channels is 4; pictures have 3",
        ),
        (
            lambda d: _configure(d, "vae", _class_name="AutoencoderTiny"),
            "describes a AutoencoderTiny; expected a AutoencoderKL",
        ),
    ],
    ids=[
        *("unet", "json", "scheduler", "tokenizer", "name", "weights", "empty"),
        "option",
        *("pointer", "null", "five", "eight", "out", "latents", "width", "pictures"),
        "class",
    ],
)
def test_a_spoilt_directory_is_one_sentence(spoil, message, pipeline):
    spoil(pipeline)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as caught:
        load_base(pipeline)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_one_sentence(pipeline):
    path = pipeline / "unet" / make.FILES["unet"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated: its header describes"):
        load_base(pipeline)


def test_layers_that_the_text_encoders_config_does_not_count_are_ignored(
    written, pipeline
):
    """As in diffusers, which takes 23 of the 24 layers of SD 2's files."""
    _configure(pipeline, "text_encoder", num_hidden_layers=1)
    base = load_base(pipeline)
    layers = base.params["text_encoder"]["text_model"]["encoder"]["layers"]
    assert set(layers) == {"0"}
    tensors = written[1]["text_encoder"]
    name = "text_model.encoder.layers.0.mlp.fc1.bias"
    np.testing.assert_array_equal(layers["0"]["mlp"]["fc1"]["bias"], tensors[name])


def _to_variant(path, variant="fp16"):
    half = {k: v.astype("f2") for k, v in load_file(path).items()}
    save_file(half, path.with_name(path.name.replace(".safe", f".{variant}.safe")))
    path.unlink()


def test_a_variant_of_the_unet_alone_is_read(written, pipeline):
    _to_variant(pipeline / "unet" / make.FILES["unet"])
    with pytest.raises(FileNotFoundError, match=r"\(--variant fp16\)"):
        load_base(pipeline)
    base = load_base(pipeline, variant="fp16")
    expected = written[1]["unet"]["conv_in.bias"].astype("f2").astype("f4")
    np.testing.assert_array_equal(base.params["unet"]["conv_in"]["bias"], expected)
    assert base.vae_fingerprint == load_base(written[0]).vae_fingerprint


def test_a_directory_of_a_variant_alone_says_how_it_is_read(written, pipeline):
    for part, name in make.FILES.items():
        _to_variant(pipeline / part / name)
    with pytest.raises(FileNotFoundError, match=r"\(--variant fp16\)"):
        load_base(pipeline)
    with pytest.raises(FileNotFoundError, match=r"bf16\.safetensors.*--variant fp16"):
        load_base(pipeline, variant="bf16")
    with pytest.raises(FileNotFoundError, match="Without a variant"):
        load_base(written[0], variant="bf16")
    load_base(pipeline, variant="fp16")

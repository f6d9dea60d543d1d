"""Files that torch, diffusers and transformers write; names as diffusers maps them."""

import diffusers
import numpy as np
import pytest
import torch
import transformers
from diffusers.loaders import single_file_utils
from safetensors.torch import save_file

from personax.core.tree import flat
from personax.loading import embedded, load_base
from personax.loading.ldm import PREFIXES, ldm_names
from personax.loading.names import torch_name
from personax.loading.pickles import open_pickle, read_pickle
from personax.networks.unet import UNetConfig
from personax.networks.vae import VAEConfig
from tests.loading import make
from tests.small_configs import PIPELINE, SCHEDULER

# Every number that is loaded must equal torch's: nothing here is computed.


def _config(part, **change):
    config = {k: v for k, v in PIPELINE[part].items() if not k.startswith("_")}
    return {**config, **change}


@pytest.fixture(scope="module")
def pipeline():
    """A small Stable Diffusion in torch, its text encoder made from a config."""
    torch.manual_seed(0)
    text = {k: v for k, v in PIPELINE["text_encoder"].items() if k != "model_type"}
    return diffusers.StableDiffusionPipeline(
        unet=diffusers.UNet2DConditionModel(**_config("unet")),
        vae=diffusers.AutoencoderKL(**_config("vae")),
        text_encoder=transformers.CLIPTextModel(transformers.CLIPTextConfig(**text)),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(
            embedded("pipeline") / "tokenizer"
        ),
        scheduler=diffusers.DDIMScheduler(
            **{k: v for k, v in SCHEDULER.items() if k != "_class_name"}
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def _torch_state(pipeline):
    """{path: torch's array in our layout}."""
    arrays = {}
    for part in ("unet", "vae", "text_encoder"):
        state = getattr(pipeline, part).state_dict()
        for path in make.template(part):
            name = torch_name(path)
            tensor = state.get(name, state.get(name.removeprefix("text_model.")))
            axes = {2: (1, 0), 4: (2, 3, 1, 0)}
            if path.endswith("kernel"):
                tensor = tensor.permute(axes[tensor.ndim])
            arrays[f"{part}/{path}"] = tensor.float().numpy()
    return arrays


def _assert_equal(base, expected):
    leaves = flat(base.params)
    assert leaves.keys() == expected.keys()
    for path, leaf in leaves.items():
        np.testing.assert_array_equal(leaf, expected[path], err_msg=path)


def test_a_pipeline_that_diffusers_saved(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path)
    base = load_base(tmp_path)
    _assert_equal(base, _torch_state(pipeline))
    assert base.spec.schedule.beta_schedule == "scaled_linear"
    assert base.tokenizer.length == 32


def test_both_dialects_of_the_text_encoder(pipeline, tmp_path):
    """What transformers saves from a config, and what it saves from an older file."""
    pipeline.save_pretrained(tmp_path / "flat")
    state = pipeline.text_encoder.state_dict()
    old = {f"text_model.{n.removeprefix('text_model.')}": t for n, t in state.items()}
    pipeline.save_pretrained(tmp_path / "old")
    save_file(old, tmp_path / "old" / "text_encoder" / "model.safetensors")
    flattened = {n.removeprefix("text_model."): t for n, t in state.items()}
    save_file(flattened, tmp_path / "flat" / "text_encoder" / "model.safetensors")
    fingerprints = {load_base(tmp_path / name).fingerprint for name in ("flat", "old")}
    assert len(fingerprints) == 1


def test_the_fp16_variant_in_shards(pipeline, tmp_path):
    expected = {
        path: array.astype(np.float16).astype(np.float32)
        for path, array in _torch_state(pipeline).items()
    }
    directory = tmp_path / "half"
    pipeline.save_pretrained(directory)
    for part in ("unet", "vae", "text_encoder"):
        module = getattr(pipeline, part)
        half = (
            type(module)(module.config)
            if part == "text_encoder"
            else (type(module).from_config(module.config))
        )
        half.load_state_dict(module.state_dict())
        half.half().save_pretrained(
            directory / part, variant="fp16", max_shard_size="40KB"
        )
        kind = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        (directory / part / f"{kind}.safetensors").unlink(missing_ok=True)
        assert (directory / part / f"{kind}.safetensors.index.fp16.json").is_file()
        assert not (directory / part / f"{kind}.fp16.safetensors").exists()
    _assert_equal(load_base(directory, variant="fp16"), expected)


def test_pickles_that_torch_wrote(pipeline, tmp_path):
    pipeline.save_pretrained(tmp_path, safe_serialization=False)
    if (tmp_path / "text_encoder" / "model.safetensors").exists():
        # transformers writes safetensors only
        state = pipeline.text_encoder.state_dict()
        torch.save(state, tmp_path / "text_encoder" / "pytorch_model.bin")
        (tmp_path / "text_encoder" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="allow_pickle=True"):
        load_base(tmp_path)
    _assert_equal(load_base(tmp_path, allow_pickle=True), _torch_state(pipeline))


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
    ],
    ids=str,
)
def test_torch_tensors_of_every_dtype_and_view(dtype, tmp_path):
    whole = (torch.arange(24) % 2).reshape(4, 6).to(dtype)
    values = {
        "whole": whole,
        "transposed": whole.T,
        "slice": whole[1:3, ::2],
        "scalar": whole[1, 1],
        "empty": whole[:0],
        "parameter": torch.nn.Parameter(whole, requires_grad=False),
        "note": "not a tensor",
    }
    torch.save({"state_dict": values, "global_step": 3}, tmp_path / "x.ckpt")
    found = open_pickle(tmp_path / "x.ckpt")
    assert set(found) == set(values) - {"note"}
    for name, array in found.items():
        np.testing.assert_array_equal(
            array.astype(np.float32), values[name].detach().float().numpy()
        )


def test_what_torch_saved_but_is_no_tensor_is_refused(tmp_path):
    values = {"w": torch.zeros(2), "model": torch.nn.Linear(1, 1)}
    for zipped in (True, False):  # False: as before torch 1.6
        torch.save(values, tmp_path / "x.pt", _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=r"is refused: .*torch\.nn\.modules"):
            open_pickle(tmp_path / "x.pt")


@pytest.mark.parametrize("zipped", [True, False])  # False: as before torch 1.6
def test_a_textual_inversion_of_the_first_authors(zipped, tmp_path):
    """Its vectors are in a module of torch, the step is a number of NumPy."""
    vectors = torch.arange(6.0).reshape(2, 3)
    values = {
        "string_to_token": {"*": torch.tensor(265)},
        "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)}),
        "name": "cat",
        "step": np.float64(2.5),
        "shape": vectors.shape,
    }
    path = tmp_path / "cat.pt"
    torch.save(values, path, _use_new_zipfile_serialization=zipped)
    found = read_pickle(path)
    np.testing.assert_array_equal(found["string_to_param"]["*"], vectors)
    assert (found["name"], found["step"], found["shape"]) == ("cat", 2.5, [2, 3])
    assert set(open_pickle(path)) == {"string_to_token.*", "string_to_param.*"}


UNETS = {
    "sd15": {},
    "small": PIPELINE["unet"],
    "three_blocks_of_three": {
        "block_out_channels": [8, 16, 24],
        "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
        "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
        "layers_per_block": 3,
        "norm_num_groups": 4,
        "use_linear_projection": True,
        "transformer_layers_per_block": 2,
    },
}


def _numbered(template):
    """{path: a tensor that says which it is}; the shapes do not matter to names."""
    return {path: torch.full((1, 1), float(i)) for i, path in enumerate(template)}


@pytest.mark.parametrize("name", UNETS)
def test_names_of_the_unet_are_those_that_diffusers_converts(name):
    config = UNetConfig.from_json(UNETS[name])
    numbered = _numbered(make.shapes("unet", config))
    names = ldm_names("unet", numbered, config)
    checkpoint = {names[path]: tensor for path, tensor in numbered.items()}
    assert len(checkpoint) == len(numbered)
    converted = single_file_utils.convert_ldm_unet_checkpoint(
        checkpoint, {"layers_per_block": config.layers_per_block}
    )
    assert converted == {torch_name(path): t for path, t in numbered.items()}
    if name == "sd15":
        marker = "model.diffusion_model.output_blocks.11.0.skip_connection.weight"
        assert marker in checkpoint
        assert len(checkpoint) == 686


VAES = {
    "sd15": {},
    "small": PIPELINE["vae"],
    "three_blocks": {"block_out_channels": [8, 8, 16], "norm_num_groups": 4},
}


@pytest.mark.parametrize("name", VAES)
def test_names_of_the_autoencoder_are_those_that_diffusers_converts(name):
    config = VAEConfig.from_json(VAES[name])
    numbered = _numbered(make.shapes("vae", config))
    names = ldm_names("vae", numbered, config)
    checkpoint = {names[path]: tensor for path, tensor in numbered.items()}
    blocks = [""] * len(config.block_out_channels)
    converted = single_file_utils.convert_ldm_vae_checkpoint(
        checkpoint, {"down_block_types": blocks, "up_block_types": blocks}
    )
    assert converted == {torch_name(path): t for path, t in numbered.items()}


def _single_file(pipeline):
    """The pipeline's tensors in LDM's names and shapes: 1x1 convolutions in the VAE."""
    tensors = {}
    configs = {"unet": UNetConfig, "vae": VAEConfig}
    for path, array in _torch_state(pipeline).items():
        part, path = path.split("/", 1)
        tensor = torch.from_numpy(np.array(array))
        if path.endswith("kernel"):
            tensor = tensor.T if tensor.ndim == 2 else tensor.permute(3, 2, 0, 1)
        if part == "text_encoder":
            name = PREFIXES[part] + torch_name(path)
        else:
            config = configs[part].from_json(PIPELINE[part])
            name = ldm_names(part, [path], config)[path]
        if part == "vae" and ".attn_1." in name and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        tensors[name] = tensor.contiguous()
    return tensors


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
def test_a_single_file_is_what_diffusers_reads_from_it(suffix, pipeline, tmp_path):
    directory, path = tmp_path / "configs", tmp_path / f"model.{suffix}"
    pipeline.save_pretrained(directory)
    tensors = _single_file(pipeline)
    if suffix == "ckpt":
        torch.save({"state_dict": tensors, "global_step": 1}, path)
    else:
        save_file(tensors, path)
    expected = _torch_state(pipeline)
    base = load_base(path, config=directory, allow_pickle=True)
    _assert_equal(base, expected)
    assert base.fingerprint == load_base(directory).fingerprint
    for part, cls in (
        ("unet", diffusers.UNet2DConditionModel),
        ("vae", diffusers.AutoencoderKL),
    ):
        module = cls.from_single_file(
            str(path), config=str(directory), subfolder=part, local_files_only=True
        )
        for name, tensor in getattr(pipeline, part).state_dict().items():
            assert torch.equal(module.state_dict()[name], tensor), name

"""An autoencoder, a UNet and a ControlNet from files of their own, against diffusers.

LDM's names are written from ours; diffusers' from_single_file reads the same file, and
its network gives the same result at 1e-4.
"""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")

from safetensors.torch import load_file, save_file  # noqa: E402

from personax.concepts.bind import from_base, with_control  # noqa: E402
from personax.concepts.load_models import load_models  # noqa: E402
from personax.core.tree import flat  # noqa: E402
from personax.diffusion.denoiser import CONTROLNET, Prompt, network  # noqa: E402
from personax.loading import load_base, load_controlnet  # noqa: E402
from personax.loading.ldm import PREFIXES, ldm_names  # noqa: E402
from personax.loading.names import torch_name, torch_shape  # noqa: E402
from personax.networks.controlnet import ControlNetConfig, init_controlnet  # noqa: E402
from personax.networks.vae import decode  # noqa: E402
from tests.loading.make import FILES, template  # noqa: E402
from tests.small_models import write_small  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("parts") / "base")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another pipeline of the same architecture, whose parts are taken."""
    return write_small(tmp_path_factory.mktemp("parts") / "other", seed=1)


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


def to_ldm(part, stored, config, prefix):
    """The tensors under LDM's names; an autoencoder's attention is convolutions."""
    by_name = {torch_name(path): path for path in template(part)}
    names = ldm_names(part, by_name.values(), config)
    out = {}
    for name, tensor in stored.items():
        new = names[by_name[name]]
        if part == "vae" and ".mid.attn_1." in new and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        out[prefix + new.removeprefix(PREFIXES[part])] = tensor.contiguous()
    return out


def write(path, tensors):
    save_file(tensors, path)
    return path


@pytest.mark.parametrize("prefix", ["first_stage_model.", ""], ids=["whole", "bare"])
def test_an_autoencoder_in_ldm_s_names(base, folder, other, tmp_path, prefix):
    stored = load_file(other / "vae" / FILES["vae"])
    tensors = to_ldm("vae", stored, base.spec.vae, prefix)
    tensors[f"{prefix}loss.logvar"] = torch.zeros(1)
    path = write(tmp_path / "vae-ft-mse.safetensors", tensors)
    loaded = load_base(folder, vae=path)
    theirs = diffusers.AutoencoderKL.from_single_file(
        str(path), config=str(other / "vae"), local_files_only=True
    )
    rng = np.random.default_rng(0)
    z = rng.standard_normal((1, 4, 8, 8)).astype("f4")
    with torch.no_grad():
        want = theirs.decode(torch.tensor(z)).sample.numpy().transpose(0, 2, 3, 1)
    own = decode(
        loaded.params["vae"],
        loaded.spec.vae,
        jnp.asarray(z.transpose(0, 2, 3, 1)) * loaded.spec.vae.scaling_factor,
    )
    np.testing.assert_allclose(own, want, rtol=0, atol=1e-4)
    assert loaded.fingerprint == base.fingerprint  # concepts of the base fit
    assert loaded.vae_fingerprint == load_base(other).vae_fingerprint
    assert loaded.params["unet"].keys() == base.params["unet"].keys()


def same(ours, theirs):
    ours, theirs = flat(ours), flat(theirs)
    return ours.keys() == theirs.keys() and all(
        np.array_equal(leaf, theirs[path]) for path, leaf in ours.items()
    )


def test_an_autoencoder_in_diffusers_layouts(folder, other, tmp_path):
    want = load_base(other).params["vae"]
    file = tmp_path / "vae.safetensors"
    shutil.copy(other / "vae" / FILES["vae"], file)
    for source in (other / "vae", other, file):
        loaded = load_base(folder, vae=source)
        assert same(loaded.params["vae"], want), source


@pytest.mark.parametrize(
    "dialect", ["model.diffusion_model.", "", "diffusers", "directory"]
)
def test_a_unet_alone_takes_the_other_parts_of_a_base(
    base, folder, other, tmp_path, dialect
):
    stored = load_file(other / "unet" / FILES["unet"])
    path = tmp_path / "unet.safetensors"
    if dialect == "directory":
        path = other / "unet"
    elif dialect == "diffusers":
        write(path, stored)
    else:
        write(path, to_ldm("unet", stored, base.spec.unet, dialect))
    loaded = load_base(path, config=folder)
    assert same(loaded.params["unet"], load_base(other).params["unet"])
    for part in ("vae", "text_encoder"):
        assert same(loaded.params[part], base.params[part])
    # Its fingerprint is that of a pipeline with these parts.
    whole = tmp_path / "whole"
    shutil.copytree(folder, whole)
    shutil.copy(other / "unet" / FILES["unet"], whole / "unet")
    assert loaded.fingerprint == load_base(whole).fingerprint
    if dialect == "model.diffusion_model.":
        theirs = diffusers.UNet2DConditionModel.from_single_file(
            str(path), config=str(other / "unet"), local_files_only=True
        )
        assert_predicts(from_base(loaded).denoiser, theirs)
        models = load_models(str(folder), others={"style": str(path)}).models
        params = models["style"].denoiser.params
        assert same(params["unet"], loaded.params["unet"])
        text = models["base"].denoiser.params["text_encoder"]
        for k, leaf in flat(params["text_encoder"]).items():
            assert leaf is flat(text)[k]


def assert_predicts(denoiser, theirs):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 8, 8)).astype("f4")
    text = rng.standard_normal((2, 7, 16)).astype("f4")
    with torch.no_grad():
        want = theirs(torch.tensor(x), 400, torch.tensor(text)).sample.numpy()
    prompt = Prompt(jnp.asarray(text))
    x = jnp.asarray(x.transpose(0, 2, 3, 1))
    own, _ = network(denoiser, x, jnp.full(2, 400.0), prompt)
    np.testing.assert_allclose(own, want.transpose(0, 2, 3, 1), rtol=0, atol=1e-4)


def test_a_unet_alone_says_what_it_needs(other):
    with pytest.raises(ValueError, match=r"is a UNet alone; .*--base_config.*--model"):
        load_base(other / "unet")


def controlnet(base, widths):
    """(a ControlNet's config, its parameters in torch's layout)."""
    config = ControlNetConfig.of(base.spec.unet, widths)
    rng = np.random.default_rng(0)
    leaves = flat(jax.eval_shape(lambda: init_controlnet(jax.random.key(0), config)))
    return config, {
        path: torch.tensor(
            rng.standard_normal(torch_shape(path, leaf.shape)).astype("f4")
        )
        for path, leaf in leaves.items()
    }


# diffusers converts hint encoders of the published four widths alone.
@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 12, 16)], ids=len)
@pytest.mark.parametrize("dialect", ["control_model.", "", "diffusers"])
def test_a_controlnet_in_one_file(base, tmp_path, dialect, widths):
    config, leaves = controlnet(base, widths)
    names = ldm_names("controlnet", leaves, config)
    path = tmp_path / "control_canny.safetensors"
    tensors = {
        torch_name(p)
        if dialect == "diffusers"
        else dialect + names[p].removeprefix("control_model."): x
        for p, x in leaves.items()
    }
    write(path, tensors)
    loaded = load_controlnet(path, unet=base.spec.unet)
    assert loaded.config == config
    reference = tmp_path / "diffusers"
    reference.mkdir()
    write(
        reference / "diffusion_pytorch_model.safetensors",
        {torch_name(p): x for p, x in leaves.items()},
    )
    values = {k: v for k, v in dataclasses.asdict(config).items() if v is not None}
    values["_class_name"] = "ControlNetModel"
    (reference / "config.json").write_text(json.dumps(values))
    assert same(loaded.params, load_controlnet(reference).params)
    if len(widths) == 2:  # at the base's pixels per latent cell
        bound = with_control(from_base(base), base, str(path)).denoiser
        assert CONTROLNET in bound.params
    elif dialect == "control_model.":
        theirs = diffusers.ControlNetModel.from_single_file(
            str(path), config=str(reference), local_files_only=True
        ).state_dict()
        for p, x in leaves.items():
            assert torch.equal(theirs[torch_name(p)], x), p

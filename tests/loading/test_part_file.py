"""Files of one part: what is refused, in one sentence, and what an option changes."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.loading import load_base, load_controlnet
from tests.loading.make import FILES, write_pipeline

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("part") / "base"
    write_pipeline(folder)
    return folder


def with_config(folder, tmp_path, **values):
    """The base's autoencoder with other values in its config.json."""
    copy = tmp_path / "vae"
    shutil.copytree(folder / "vae", copy)
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | values))
    return copy


def refusal(function, *args, **options):
    with pytest.raises((ValueError, FileNotFoundError), match=r"\S") as error:
        function(*args, **options)
    (line,) = str(error.value).splitlines()
    return line


def test_an_autoencoder_of_another_family_is_refused_by_its_scale(folder, tmp_path):
    vae = with_config(folder, tmp_path, scaling_factor=0.13025)
    line = refusal(load_base, folder, vae=vae)
    assert f"The autoencoder {vae} scales latents by 0.13025" in line


def test_an_autoencoder_of_other_latents_is_refused(folder, tmp_path):
    vae = with_config(folder, tmp_path, latent_channels=3)
    stored = load_file(vae / FILES["vae"])
    shapes = {
        "encoder.conv_out.weight": (0, 6),
        "encoder.conv_out.bias": (0, 6),
        "decoder.conv_in.weight": (1, 3),
        "quant_conv.weight": (0, 6, 1, 6),
        "quant_conv.bias": (0, 6),
        "post_quant_conv.weight": (0, 3, 1, 3),
        "post_quant_conv.bias": (0, 3),
    }
    for name, cuts in shapes.items():
        for axis, size in zip(cuts[::2], cuts[1::2], strict=True):
            stored[name] = np.take(stored[name], range(size), axis)
    save_file(
        {k: np.ascontiguousarray(v) for k, v in stored.items()}, vae / FILES["vae"]
    )
    line = refusal(load_base, folder, vae=vae)
    assert "has 3 latent_channels; the base's UNet takes latents of 4" in line


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a.weight": np.ones(2, "f4")}, "is not an autoencoder: no tensor's name"),
        ({"decoder.up.0.block.0.norm1.bias": np.ones(8, "f4")}, "do not fit"),
    ],
)
def test_a_foreign_or_cut_file_is_no_autoencoder(folder, tmp_path, tensors, message):
    path = tmp_path / "vae.safetensors"
    save_file(tensors, path)
    line = refusal(load_base, folder, vae=path)
    assert str(path) in line
    assert message in line


def test_a_missing_or_truncated_autoencoder(folder, tmp_path):
    line = refusal(load_base, folder, vae=tmp_path / "none.safetensors")
    assert "none.safetensors" in line
    path = tmp_path / "vae.safetensors"
    path.write_bytes((folder / "vae" / FILES["vae"]).read_bytes()[:-8])
    assert "truncated" in refusal(load_base, folder, vae=path)


def test_a_pickle_needs_permission(folder, tmp_path):
    path = tmp_path / "vae.ckpt"
    path.write_bytes(b"PK")
    assert "is a pickle" in refusal(load_base, folder, vae=path)


def test_a_unet_s_directory_is_no_autoencoder(folder):
    line = refusal(load_base, folder, vae=folder / "unet")
    assert "describes a UNet2DConditionModel; expected AutoencoderKL" in line


def test_controlnets_that_are_differences_are_refused(tmp_path):
    path = tmp_path / "control.safetensors"
    save_file({"difference": np.ones(1, "f4")}, path)
    assert "difference from a UNet" in refusal(load_controlnet, path)


def test_the_fingerprint_of_the_latents_is_the_new_autoencoder_s(folder, tmp_path):
    """A cache of latents fits the autoencoder that made them, a concept the base."""
    stored = load_file(folder / "vae" / FILES["vae"])
    name = next(iter(stored))
    path = tmp_path / "vae.safetensors"
    save_file({**stored, name: stored[name] + 1}, path)
    base, other = load_base(folder), load_base(folder, vae=path)
    assert other.fingerprint == base.fingerprint
    assert other.vae_fingerprint != base.vae_fingerprint
    assert load_base(folder, vae=folder).vae_fingerprint == base.vae_fingerprint
    # Equal parts of a known base are not loaded again.
    shared = load_base(folder, vae=path, known=[base])
    assert shared.params["unet"] is base.params["unet"]
    assert shared.params["vae"] is not base.params["vae"]

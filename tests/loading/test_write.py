"""A written UNet is read back, and equals the file that it came from."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from personax.loading import embedded, load_base
from personax.loading.write import save_unet
from personax.tree import flat, overwrite

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def written(emoji, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(embedded("pipeline"), folder)
    shutil.rmtree(folder / "unet")
    save_unet(emoji.params["unet"], emoji.spec.unet, folder / "unet")
    return folder


def test_the_shipped_unet_is_written_as_it_lies_there(written):
    ours = load_file(written / "unet" / FILE)
    shipped = load_file(embedded("pipeline") / "unet" / FILE)
    assert ours.keys() == shipped.keys()
    for name, tensor in shipped.items():
        assert ours[name].dtype == tensor.dtype
        np.testing.assert_array_equal(ours[name], tensor)


def test_a_base_with_it_is_read_and_is_the_same_base(written, emoji):
    base = load_base(written)
    assert base.spec == emoji.spec
    assert base.fingerprint == emoji.fingerprint
    own = flat(emoji.params["unet"])
    for path, leaf in flat(base.params["unet"]).items():
        np.testing.assert_array_equal(leaf, own[path])


def test_diffusers_loads_it(written, emoji):
    diffusers = pytest.importorskip("diffusers")
    unet = diffusers.UNet2DConditionModel.from_pretrained(written / "unet")
    assert unet.config.sample_size == emoji.spec.unet.sample_size
    assert sum(p.numel() for p in unet.parameters()) == 9_488_072


def test_a_number_that_float16_cannot_hold_is_named(emoji, tmp_path):
    path = "conv_in/bias"
    large = {path: jnp.full_like(emoji.params["unet"]["conv_in"]["bias"], 1e6)}
    params = overwrite(emoji.params["unet"], large)
    with pytest.raises(ValueError, match=f"{path} holds .* not finite in float16"):
        save_unet(params, emoji.spec.unet, tmp_path)

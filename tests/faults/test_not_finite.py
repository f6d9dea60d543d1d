"""NaN and infinities: in concepts, adapters and bases when read, and in pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.concepts import formats
from personax.concepts.bind import from_base
from personax.concepts.compress import compress
from personax.concepts.merge import merge
from personax.core.errors import RunFailedError
from personax.loading import load_base, load_controlnet
from personax.loading.write import write_controlnet
from personax.networks.controlnet import ControlNetConfig, copy_encoder
from personax.sampling.model import load
from tests.loading.make import FILES
from tests.small_models import write_concept, write_smaller

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_smaller(tmp_path_factory.mktemp("nan") / "base", smallest=True)


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


def _spoil(path, value=np.nan):
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].ndim >= 2)
    tensors[name].flat[0] = value
    save_file(tensors, path)
    return name


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_a_base_is_refused_by_the_tensor_s_name(part, tmp_path):
    base = write_smaller(tmp_path / "base", smallest=True)
    _spoil(base / part / FILES[part], np.inf)
    with pytest.raises(ValueError, match=rf"base: the tensor {part}/.* has NaN"):
        load_base(base)


def test_a_controlnet_is_refused(base, folder, tmp_path):
    config = ControlNetConfig.of(base.spec.unet, (4, 8))
    net = copy_encoder(jax.random.key(0), base.params["unet"], (4, 8))
    write_controlnet(tmp_path / "net", net, config)
    _spoil(tmp_path / "net" / FILES["unet"])
    with pytest.raises(ValueError, match=r"net.* has NaN"):
        load_controlnet(tmp_path / "net", unet=base.spec.unet)


def test_merge_and_compress_refuse_a_concept(base, folder, tmp_path):
    concepts = [write_concept(tmp_path / name, folder) for name in "ab"]
    name = _spoil(concepts[1] / "theta.safetensors")
    with pytest.raises(ValueError, match=rf"b/theta\.safetensors: {name} has NaN"):
        merge(base, concepts[::-1], tmp_path / "out", ["a dog"])
    params = from_base(base).denoiser.params
    with pytest.raises(ValueError, match=f"{name} has NaN"):
        compress(concepts[1], tmp_path / "out", params, base.fingerprint)
    assert not (tmp_path / "out").exists()


def test_an_adapter_is_refused(base, tmp_path):
    path = tmp_path / "word.safetensors"
    save_file({"<v1>": np.full(16, np.nan, np.float32)}, path)
    params = from_base(base).denoiser.params
    with pytest.raises(ValueError, match=r"word\.safetensors.*NaN"):
        formats.read(path, params, base.spec.unet, size=base.tokenizer.size)


def test_pictures_of_a_model_that_overflows_are_named(folder):
    model = load(folder)
    with pytest.raises(RunFailedError, match=r"^picture 0, picture 1 are not finite"):
        model.sample("a dog", guidance=1e38, terms=["1e38:a cat"] * 3, num_images=2)


def test_pictures_that_are_finite_are_told_from_others(base):
    from personax.sampling.sampler import decode_checked

    shape = base.spec.latent_shape(*base.spec.size)
    latents = jnp.zeros((3, *shape)).at[1, 0, 0, 0].set(jnp.nan)
    decoded = decode_checked(base.spec, base.params["vae"], latents)
    assert decoded.finite.tolist() == [True, False, True]

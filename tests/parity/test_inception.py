"""FID's Inception, its resizing and the loader against torch-fidelity and clean-fid.

Both packages ask for torchvision, which is not here: of each, only files that do not
use it are imported.
"""

import importlib
import sys
import types
import warnings
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from cleanfid.resize import build_resizer
from safetensors.numpy import save_file

from personax.core.tree import flat
from personax.loading.inception import load_inception
from personax.loading.names import from_layout, torch_name
from personax.metrics import inception as metric
from personax.networks.inception import init_inception, logits

TOLERANCE = 1e-5  # max abs error of features and logits, which deviate by some 0.3


@pytest.fixture(scope="module")
def fidelity():
    """torch-fidelity's extractor and its resizer, without the package's __init__."""
    name = "torch_fidelity"
    package = types.ModuleType(name)
    package.__path__ = [str(metadata.distribution("torch-fidelity").locate_file(name))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, name, package)
        yield importlib.import_module(f"{name}.feature_extractor_inceptionv3")
    for module in [module for module in sys.modules if module.startswith(f"{name}.")]:
        del sys.modules[module]


@pytest.fixture(scope="module")
def state():
    """Random weights under the published names: every norm's statistics are drawn."""
    rng = np.random.default_rng(0)

    def draw(path, shape):
        if path.endswith(("scale", "running_var")):
            return rng.uniform(0.5, 1.5, shape).astype(np.float32)
        if path.endswith("kernel"):
            spread = np.sqrt(1.5 / np.prod(shape[:-1]))
            return spread * rng.standard_normal(shape, np.float32)
        return 0.1 * rng.standard_normal(shape, np.float32)

    shapes = flat(jax.eval_shape(init_inception, jax.random.key(0)))
    drawn = {path: draw(path, leaf.shape) for path, leaf in shapes.items()}
    return {
        torch_name(path): np.ascontiguousarray(from_layout(path, array))
        for path, array in drawn.items()
    }


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    """As torch writes it, with the counters of its norms."""
    tensors = {name: torch.from_numpy(array) for name, array in state.items()}
    for name in state:
        norm, _, leaf = name.rpartition(".")
        if leaf == "running_var":
            tensors[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(tensors, path)
    return path


@pytest.fixture(scope="module")
def theirs(fidelity, file):
    """Their network, which takes no name too many or too few and no other shape."""
    names = ["2048", "logits"]
    return fidelity.FeatureExtractorInceptionV3("inception-v3-compat", names, str(file))


@pytest.fixture(scope="module")
def params(file):
    return load_inception(file, allow_pickle=True)


def pictures(rows, columns):
    """One of noise with edges, as hard for a resizer as can be, and a smooth one."""
    noise = np.random.default_rng(1).integers(0, 256, (rows, columns, 3), np.uint8)
    noise[: rows // 2, ::3] = 255
    noise[rows // 3 :, : columns // 4] = 0
    y, x = np.mgrid[:rows, :columns]
    smooth = np.stack([255 * y / rows, 255 * x / columns, y + x], axis=-1)
    return [noise, (smooth % 256).astype(np.uint8)]


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def clean(picture):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PIL's, of their `mode`
        return build_resizer("clean")(picture)


def assert_close(ours, theirs, tolerance=TOLERANCE):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def test_features_and_logits_of_clean_fids_pictures(
    theirs, params, fidelity, monkeypatch
):
    pixels = pictures(90, 64)
    # Their network refuses floats; of 299 x 299 its own resizer changes nothing.
    monkeypatch.setattr(fidelity, "vassert", lambda *_: None)
    resized = nchw(np.stack([clean(each) for each in pixels]))
    features, classes = (x.numpy() for x in theirs(resized))
    ours = metric.of_images(params, pixels)
    assert_close(ours, features)
    assert_close(logits(params, jnp.asarray(ours)), classes)


SIZES = [(32, 32), (90, 64), (299, 301), (640, 427)]


@pytest.mark.parametrize("size", SIZES)
def test_resized_pictures_are_clean_fids(size):
    for each in pictures(*size):
        np.testing.assert_array_equal(metric.resize(each), clean(each))


def test_a_safetensors_file_holds_the_same(state, params, tmp_path):
    save_file(state, tmp_path / "weights.safetensors")
    loaded = flat(load_inception(tmp_path / "weights.safetensors"))
    assert loaded.keys() == flat(params).keys()
    for path, leaf in flat(params).items():
        np.testing.assert_array_equal(loaded[path], leaf)


def test_a_file_that_is_not_fids_inception_is_refused(state, file, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"none\.pth does not exist; .*6726825d\.pth"
    ):
        load_inception(tmp_path / "none.pth")
    with pytest.raises(ValueError, match=r"is a pickle, .*allow_pickle=True"):
        load_inception(file)
    other = {**state, "AuxLogits.fc.bias": np.zeros(8, np.float32)}
    other["fc.weight"] = other["fc.weight"][:1000]
    del other["Mixed_7c.branch_pool.bn.bias"]
    save_file(other, tmp_path / "other.safetensors")
    fault = (
        r"1 missing \(Mixed_7c\.branch_pool\.bn\.bias\), "
        r"1 extra \(AuxLogits\.fc\.bias\), "
        r"1 misshapen \(fc\.weight \(1000, 2048\) instead of \(1008, 2048\)\)\.$"
    )
    with pytest.raises(ValueError, match=fault):
        load_inception(tmp_path / "other.safetensors")

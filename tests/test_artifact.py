"""A concept on disk: what is refused, in one sentence, and by name."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from personax import artifact, methods
from tests.methods.test_laws import CONCEPTS

pytestmark = pytest.mark.quick


@pytest.fixture
def folder(tiny, tmp_path):
    method = methods.make("custom_diffusion")
    theta = methods.init(method, jax.random.key(0), tiny.params, CONCEPTS)
    artifact.save(
        tmp_path / "concept",
        theta,
        CONCEPTS,
        method="custom_diffusion",
        method_args={"train": "kv"},
        base="tiny",
        fingerprint="f",
        step=3,
    )
    return tmp_path / "concept"


def test_it_holds_theta_and_json_and_nothing_else(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "concept.json",
        "theta.safetensors",
    ]
    about = json.loads((folder / "concept.json").read_text())
    assert about["step"] == 3
    assert about["concepts"][0]["placeholder"] == "<v1>"


def test_another_base_is_refused_by_name(folder, tiny):
    with pytest.raises(ValueError, match="trained on the base 'tiny'"):
        artifact.load(folder, tiny.params, "g")


def test_the_work_directory_is_answered_with_the_folder_inside(folder, tiny):
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*concept"):
        artifact.load(folder.parent, tiny.params, "f")


def test_a_truncated_file_is_refused(folder, tiny):
    path = folder / "theta.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        artifact.load(folder, tiny.params, "f")


def test_foreign_json_is_refused(folder, tiny):
    (folder / "concept.json").write_text('{"format": "lora"}')
    with pytest.raises(ValueError, match=r"not a personax\.concept"):
        artifact.load(folder, tiny.params, "f")
    (folder / "concept.json").write_text("{")
    with pytest.raises(ValueError, match="no JSON"):
        artifact.load(folder, tiny.params, "f")


def test_leaves_that_the_method_does_not_have_are_named(folder, tiny):
    save_file({"weights/x": np.zeros(1)}, folder / "theta.safetensors")
    with pytest.raises(ValueError, match="first tokens/embedding"):
        artifact.load(folder, tiny.params, "f")


def test_a_missing_theta_is_named(folder, tiny):
    (folder / "theta.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"theta\.safetensors is missing"):
        artifact.load(folder, tiny.params, "f")

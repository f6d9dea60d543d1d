"""A concept on disk: what is saved, loaded and refused."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from personax import methods
from personax.concepts import artifact
from personax.core.tree import flat
from tests.methods.test_laws import CONCEPTS

pytestmark = pytest.mark.quick


def write(folder, tiny, **more):
    method = methods.make("custom_diffusion")
    theta = methods.init(method, jax.random.key(0), tiny.params, CONCEPTS)
    artifact.save(
        folder,
        theta,
        CONCEPTS,
        method="custom_diffusion",
        method_args={"train": "kv"},
        base="tiny",
        fingerprint="f",
        **more,
    )
    return theta


@pytest.fixture
def folder(tiny, tmp_path):
    write(tmp_path / "concept", tiny, step=3)
    return tmp_path / "concept"


def test_it_holds_theta_and_json_and_nothing_else(folder):
    assert sorted(file.name for file in folder.iterdir()) == [
        "concept.json",
        "theta.safetensors",
    ]
    about = json.loads((folder / "concept.json").read_text())
    assert about["step"] == 3
    assert about["concepts"] == [
        {
            "placeholder": "<v1>",
            "class_word": "dog",
            "ids": [64],
            "initial": [7],
            "phrase": "<v1> dog",
        }
    ]
    assert [file.name for file in folder.parent.iterdir()] == ["concept"]


def test_loading_is_bitwise_what_was_saved(tiny, tmp_path):
    theta = write(tmp_path / "concept", tiny)
    loaded = artifact.load(tmp_path / "concept", tiny.params, "f")
    assert loaded.concepts == tuple(CONCEPTS)
    assert loaded.about["method_args"] == {"train": "kv"}
    assert flat(loaded.theta).keys() == flat(theta).keys()
    for path, leaf in flat(theta).items():
        np.testing.assert_array_equal(flat(loaded.theta)[path], leaf, err_msg=path)


def test_a_concept_with_a_drawn_row_is_loaded(tiny, tmp_path):
    drawn = [CONCEPTS[0]._replace(initial=(None,))]
    method = methods.make("textual_inversion")
    theta = methods.init(method, jax.random.key(0), tiny.params, drawn)
    about = {"method": "textual_inversion", "method_args": {}, "base": "tiny"}
    artifact.save(tmp_path / "a", theta, drawn, fingerprint="f", **about)
    loaded = artifact.load(tmp_path / "a", tiny.params, "f")
    assert loaded.concepts[0].initial == (None,)


def test_the_files_have_the_usual_permissions(folder, tmp_path):
    (tmp_path / "any").write_text("")
    mode = (tmp_path / "any").stat().st_mode
    assert {path.stat().st_mode for path in folder.iterdir()} == {mode}


def test_saving_again_replaces_the_folder(folder, tiny):
    write(folder, tiny, step=4)
    assert artifact.load(folder, tiny.params, "f").about["step"] == 4


def test_earlier_concepts_are_copied_in_order(folder, tiny, tmp_path):
    assert artifact.earlier(folder) == []
    before = [folder] * 11
    write(tmp_path / "late", tiny, before=before)
    copies = artifact.earlier(tmp_path / "late")
    assert [copy.path.name for copy in copies] == [str(i) for i in range(11)]
    for copy in copies:
        assert artifact.load(copy.path, tiny.params, "f").about["step"] == 3


def test_a_concept_saved_with_an_argument_s_former_name_is_loaded(tiny, tmp_path):
    pattern = "unet/conv_in/.*"
    method = methods.make("dreambooth", train=pattern, from_scratch=True)
    theta = methods.init(method, jax.random.key(0), tiny.params, [])
    artifact.save(
        tmp_path / "concept",
        theta,
        [],
        method="dreambooth",
        method_args={"train": pattern, "fresh": True},
        base="tiny",
        fingerprint="f",
    )
    loaded = artifact.load(tmp_path / "concept", tiny.params, "f")
    for path, leaf in theta["weights"].items():
        np.testing.assert_array_equal(loaded.theta["weights"][path], leaf)


def test_another_base_is_refused_by_name(folder, tiny):
    with pytest.raises(ValueError, match="trained on the base 'tiny'"):
        artifact.load(folder, tiny.params, "g")


def test_the_error_for_a_work_directory_names_its_concept(folder, tiny):
    with pytest.raises(FileNotFoundError, match=r"Did you mean .*concept"):
        artifact.load(folder.parent, tiny.params, "f")


def test_a_truncated_file_is_refused(folder, tiny):
    path = folder / "theta.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        artifact.load(folder, tiny.params, "f")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "lora"}', r"not a personax\.concept"),
        ("[]", r"not a personax\.concept"),
        ("{", "not valid JSON"),
    ],
)
def test_foreign_json_is_refused(folder, tiny, text, message):
    (folder / "concept.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        artifact.load(folder, tiny.params, "f")


def test_leaves_that_the_method_does_not_have_are_named(folder, tiny):
    save_file({"weights/x": np.zeros(1)}, folder / "theta.safetensors")
    with pytest.raises(ValueError, match="first tokens/embedding"):
        artifact.load(folder, tiny.params, "f")


def test_a_missing_theta_is_named(folder, tiny):
    (folder / "theta.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"theta\.safetensors is missing"):
        artifact.load(folder, tiny.params, "f")

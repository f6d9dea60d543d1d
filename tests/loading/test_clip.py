"""`load_clip`: the package's CLIP, and a directory's."""

import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.core.tree import count
from personax.loading import embedded, load_clip


@pytest.fixture
def directory(tmp_path):
    shutil.copytree(embedded("clip"), tmp_path / "clip")
    shutil.copytree(
        embedded("pipeline") / "tokenizer", tmp_path / "clip", dirs_exist_ok=True
    )
    return tmp_path / "clip"


def test_the_packages_clip_is_the_default(directory):
    clip = load_clip()
    tensors = load_file(directory / "model.safetensors")
    assert count(clip.params) == sum(tensor.size for tensor in tensors.values())
    np.testing.assert_array_equal(clip.params["logit_scale"], tensors["logit_scale"])
    np.testing.assert_array_equal(
        clip.params["vision_model"]["embeddings"]["patch_embedding"]["kernel"],
        tensors["vision_model.embeddings.patch_embedding.weight"].transpose(2, 3, 1, 0),
    )
    assert clip.mean == (0.48145466, 0.4578275, 0.40821073)
    assert clip.tokenizer.size == clip.config.text_config.vocab_size == 1212


def test_a_directory_is_read_and_what_it_lacks_is_named(directory):
    assert load_clip(directory).config == load_clip().config
    tensors = {**load_file(directory / "model.safetensors")}
    tensors["text_model.embeddings.position_ids"] = np.arange(32)
    del tensors["text_projection.weight"]
    save_file(tensors, directory / "model.safetensors")
    with pytest.raises(ValueError, match=r"1 missing \(text_projection\.weight\)\.$"):
        load_clip(directory)

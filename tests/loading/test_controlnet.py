"""A ControlNet directory: read, and its one-line errors."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.core.tree import flat
from personax.loading import files, load_controlnet
from personax.loading.write import write_controlnet
from personax.networks.controlnet import ControlNetConfig, init_controlnet
from tests.random_params import random_params

pytestmark = pytest.mark.quick
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def written(tiny_spec, tmp_path):
    """(its folder, its parameters, its config)."""
    config = ControlNetConfig.of(tiny_spec.unet, (4, 8))
    shapes = jax.eval_shape(lambda: init_controlnet(jax.random.key(0), config))
    params = random_params(shapes)
    write_controlnet(tmp_path / "control", params, config)
    return tmp_path / "control", params, config


def change(folder, **changed):
    """Put tensors in the file, or take those that are None out of it."""
    stored = {**load_file(folder / WEIGHTS), **changed}
    left = {name: tensor for name, tensor in stored.items() if tensor is not None}
    save_file(left, folder / WEIGHTS)


def test_it_is_read_as_it_was_written(written):
    folder, params, config = written
    loaded = load_controlnet(folder)
    assert loaded.config == config
    for path, leaf in flat(params).items():
        np.testing.assert_array_equal(flat(loaded.params)[path], leaf, err_msg=path)


def test_parameters_lie_where_they_are_told_to(written):
    asked = []

    def sharding(path, shape):
        asked.append(path)
        return jax.sharding.SingleDeviceSharding(jax.devices()[3])

    loaded = load_controlnet(written[0], sharding=sharding)
    assert set(asked) == set(flat(written[1]))
    placed = {leaf.device for leaf in flat(loaded.params).values()}
    assert placed == {jax.devices()[3]}


def test_tensors_that_do_not_fit_are_named_together(written):
    mid = "controlnet_mid_block.weight"
    change(written[0], stranger=np.zeros(1, np.float32), **{mid: None})
    with pytest.raises(ValueError, match=f"1 missing .{mid}., 1 extra .stranger."):
        load_controlnet(written[0])


def test_what_is_no_controlnet_is_refused_in_one_sentence(written, tmp_path):
    config = written[0] / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(ValueError, match="a UNet2DConditionModel; expected Contr"):
        load_controlnet(written[0])
    config.unlink()
    with pytest.raises(FileNotFoundError, match="has no config"):
        load_controlnet(written[0])
    with pytest.raises(FileNotFoundError, match="'nowhere' does not exist"):
        load_controlnet("nowhere")
    config.write_text(json.dumps(values))
    (written[0] / WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match=WEIGHTS):
        load_controlnet(written[0])


def test_only_a_controlnets_own_files_are_fetched_from_the_hub(written, monkeypatch):
    calls = []

    def snapshot_download(name, *, allow_patterns, local_files_only):
        calls.append((name, allow_patterns, local_files_only))
        if local_files_only:
            raise FileNotFoundError("not cached")
        return str(written[0])

    monkeypatch.setattr(files, "snapshot_download", snapshot_download)
    assert load_controlnet("owner/canny").config == written[2]
    assert [local for _, _, local in calls] == [True, False]
    assert "config.json" in calls[0][1]
    assert WEIGHTS in calls[0][1]
    assert not [pattern for pattern in calls[0][1] if "/" in pattern]

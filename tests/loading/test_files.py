"""Finding weights: variants, shards, the Hub's cache, single files."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from personax.loading import files, load_base
from personax.loading.ldm import PREFIXES, ldm_names
from personax.loading.names import torch_name
from personax.networks.unet import UNetConfig
from personax.networks.vae import VAEConfig
from tests.loading import make
from tests.small_configs import PIPELINE


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("files") / "pipeline"
    make.write_pipeline(directory)
    return directory


@pytest.fixture
def pipeline(written, tmp_path):
    shutil.copytree(written, tmp_path / "pipeline")
    return tmp_path / "pipeline"


def _shard(path, variant=""):
    """The file at `path` as two shards and an index, as diffusers writes them."""
    tensors = load_file(path)
    path.unlink()
    stem, names = path.name.removesuffix(".safetensors"), sorted(tensors)
    index = {}
    for k, part in enumerate((names[::2], names[1::2])):
        shard = f"{stem}{variant}-{k + 1:05}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, path.parent / shard)
        index.update(dict.fromkeys(part, shard))
    index_path = path.parent / f"{stem}.safetensors.index{variant}.json"
    index_path.write_text(json.dumps({"metadata": {}, "weight_map": index}))


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_shards_are_put_together(variant, written, pipeline):
    for part, name in make.FILES.items():
        _shard(pipeline / part / name, f".{variant}" if variant else "")
    base = load_base(pipeline, variant=variant)
    assert base.fingerprint == load_base(written).fingerprint


def test_a_missing_shard_is_named(pipeline):
    _shard(pipeline / "unet" / make.FILES["unet"])
    shard = "diffusion_pytorch_model-00002-of-00002.safetensors"
    (pipeline / "unet" / shard).unlink()
    with pytest.raises(FileNotFoundError, match=f"names {shard}, which is missing"):
        load_base(pipeline)


def test_a_variant_is_another_file(pipeline):
    for part, name in make.FILES.items():
        half = {k: v.astype("f2") for k, v in load_file(pipeline / part / name).items()}
        save_file(half, pipeline / part / name.replace(".safe", ".fp16.safe"))
    half, full = load_base(pipeline, variant="fp16"), load_base(pipeline)
    assert half.fingerprint != full.fingerprint
    kernel = full.params["unet"]["conv_in"]["kernel"]
    np.testing.assert_array_equal(
        half.params["unet"]["conv_in"]["kernel"],
        np.asarray(kernel).astype("f2").astype("f4"),
    )
    with pytest.raises(
        FileNotFoundError, match=r"no diffusion_pytorch_model\.bf16\.safetensors; it"
    ):
        load_base(pipeline, variant="bf16")


@pytest.fixture
def hub(written, tmp_path, monkeypatch):
    """A cache of the Hub that holds the pipeline as owner/tiny."""
    repo = tmp_path / "hub" / "models--owner--tiny"
    shutil.copytree(written, repo / "snapshots" / "abc")
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    return tmp_path


def test_an_id_is_found_in_the_cache_with_the_hub_out_of_reach(hub):
    """In a process of its own: the Hub's settings are read when it is imported."""
    code = (
        "from personax.loading.files import find\n"
        "for name in ('owner/tiny', 'owner/absent'):\n"
        "    try:\n        print(find(name, variant=None, allow_pickle=False))\n"
        "    except FileNotFoundError as error:\n        print(error)\n"
    )
    env = {**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        env.pop(name, None)
    run = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    found, absent = run.stdout.splitlines()
    assert found == str(hub / "hub/models--owner--tiny/snapshots/abc"), run.stderr
    assert absent.startswith("'owner/absent' is neither an existing path nor an")


def test_only_what_is_read_is_asked_of_the_hub(written, monkeypatch):
    calls = []

    def snapshot_download(name, *, allow_patterns, local_files_only):
        calls.append((name, local_files_only, allow_patterns))
        if local_files_only:
            raise FileNotFoundError("not cached")
        return str(written)

    monkeypatch.setattr(files, "snapshot_download", snapshot_download)
    load_base("owner/tiny")
    assert [call[:2] for call in calls] == [("owner/tiny", True), ("owner/tiny", False)]
    patterns = calls[1][2]
    assert "unet/diffusion_pytorch_model.safetensors" in patterns
    assert not any("*" in p.split("/")[-1] and "tokenizer" not in p for p in patterns)
    assert not any(".bin" in p or "safety" in p for p in patterns)


def test_a_snapshot_that_was_cut_off_is_fetched_further(pipeline, written, monkeypatch):
    (pipeline / "vae" / make.FILES["vae"]).unlink()

    def snapshot_download(name, *, allow_patterns, local_files_only):
        return str(pipeline if local_files_only else written)

    monkeypatch.setattr(files, "snapshot_download", snapshot_download)
    assert load_base("owner/tiny").fingerprint == load_base(written).fingerprint


def test_a_path_comes_before_an_id(written, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(written, tmp_path / "owner" / "tiny")
    assert load_base("owner/tiny").fingerprint == load_base(written).fingerprint


@pytest.mark.parametrize("source", ["no-such-thing", "/no/such/thing", "a/b/c"])
def test_what_is_neither_path_nor_id_is_one_sentence(source):
    with pytest.raises(FileNotFoundError, match="does not exist: expected a directory"):
        load_base(source)


@pytest.fixture(scope="module")
def single(written, tmp_path_factory):
    """The pipeline as one LDM checkpoint, with what training leaves in one."""
    tensors = {
        "model_ema.decay": np.zeros((), "f4"),
        "model_ema.diffusion_modelconv": np.zeros(3, "f4"),
        "alphas_cumprod": np.zeros(1000, "f4"),
        "alphas_cumprod_prev": np.zeros(1000, "f4"),
        "sqrt_one_minus_alphas_cumprod": np.zeros(1000, "f4"),
        "first_stage_model.loss.logvar": np.zeros((), "f4"),
        "first_stage_model.model_ema.decay": np.zeros((), "f4"),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": np.arange(3),
    }
    configs = {"unet": UNetConfig, "vae": VAEConfig}
    for part, name in make.FILES.items():
        state = load_file(written / part / name)
        for path in make.template(part):
            tensor = state[torch_name(path)]
            if part == "text_encoder":
                tensors[PREFIXES[part] + torch_name(path)] = tensor
                continue
            config = configs[part].from_json(PIPELINE[part])
            if part == "vae" and ".attentions." in torch_name(path):
                tensor = tensor[..., None, None] if tensor.ndim == 2 else tensor
            tensors[ldm_names(part, [path], config)[path]] = tensor
    path = tmp_path_factory.mktemp("ldm") / "model.safetensors"
    save_file(tensors, path)
    return path


def test_a_single_file_is_the_same_base(single, written):
    base = load_base(single, config=written)
    assert base.fingerprint == load_base(written).fingerprint
    assert base.name == str(single)


def _spoil(single, tmp_path, change):
    tensors = {name: np.array(tensor) for name, tensor in load_file(single).items()}
    change(tensors)
    save_file(tensors, tmp_path / "x.safetensors")
    return tmp_path / "x.safetensors"


def test_what_does_not_fit_has_the_names_of_the_file(single, written, tmp_path):
    def change(tensors):
        del tensors["model.diffusion_model.out.2.bias"]
        tensors["first_stage_model.encoder.what"] = np.zeros(3, "f4")

    path = _spoil(single, tmp_path, change)
    with pytest.raises(ValueError, match="do not fit") as caught:
        load_base(path, config=written)
    assert "1 missing (model.diffusion_model.out.2.bias)" in str(caught.value)
    assert "1 extra (first_stage_model.encoder.what)" in str(caught.value)


def test_a_tensor_of_no_part_is_named(single, written, tmp_path):
    path = _spoil(single, tmp_path, lambda t: t.update(edm_mean=np.zeros(1, "f4")))
    with pytest.raises(ValueError, match="unknown parts of the model: edm_mean"):
        load_base(path, config=written)


def test_markers_say_what_the_model_predicts(single, written, tmp_path):
    marked = {"v_pred": np.zeros(0, "f4"), "ztsnr": np.zeros(0, "f4")}
    plain = load_base(single, config=written).spec.schedule
    assert (plain.prediction_type, plain.rescale_betas_zero_snr) == ("epsilon", False)
    for names in (["v_pred"], ["v_pred", "ztsnr"]):
        chosen = {name: marked[name] for name in names}
        path = _spoil(single, tmp_path, lambda t, chosen=chosen: t.update(chosen))
        schedule = load_base(path, config=written).spec.schedule
        assert schedule.prediction_type == "v_prediction"
        assert schedule.rescale_betas_zero_snr == ("ztsnr" in names)


def test_a_foreign_safetensors_file_is_one_sentence(written):
    path = written / "text_encoder" / make.FILES["text_encoder"]
    with pytest.raises(ValueError, match="not a single-file checkpoint of Stable Diff"):
        load_base(path, config=written)


def test_another_files_kind_is_guessed(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"conditioner.embedders.0.logit_scale": np.zeros(1, "f4")}, path)
    with pytest.raises(ValueError, match=r"It looks like Stable Diffusion XL\.$"):
        load_base(path)


def test_a_single_file_of_another_size_asks_for_configs(single, monkeypatch):
    with pytest.raises(ValueError, match=r"texts of width 16: .* `config`.*directory"):
        load_base(single)

    def snapshot_download(*args, **kwargs):
        raise OSError("no network\nin two lines")

    monkeypatch.setattr(files, "snapshot_download", snapshot_download)
    with pytest.raises(
        FileNotFoundError, match="'owner/absent' is neither an"
    ) as caught:
        load_base(single, config="owner/absent")
    assert str(caught.value).endswith("Face id: no network")

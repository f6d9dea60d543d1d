"""The command that teaches: what it leaves behind, and how it refuses."""

import importlib
import json
import re

import jax
import numpy as np
import pytest
import yaml
from PIL import Image

from personax.cli import command
from personax.cli.config_from_yaml import get_config
from personax.loading import load_base
from personax.training.setup import prepare
from personax.training.workdir import plain
from personax.training.writer import read_metrics
from tests.commands.test_commands import check_refusal, run
from tests.refusing import refused

SHORT = [
    "--config.steps=3",
    "--config.batch=2",
    "--config.log_every=2",
    '--config.preview.prompts=("a photo of a {}",)',
    "--config.preview.steps=2",
    "--config.preview.images=2",
    "--config.preview.every=2",
    "--config.validation.every=2",
    "--config.validation.count=2",
]


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """(the work directory that three steps leave, what they printed)."""
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    done = run(
        "personax.train",
        "--config=configs/quickstart.py",
        f"--workdir={folder}",
        *SHORT,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_it_says_what_it_trains_and_where_the_result_is(quickstart):
    folder, printed = quickstart
    assert re.search(r"training weights: [\d,]+ numbers in 14 leaves", printed)
    assert "training tokens: 128 numbers in 1 leaves" in printed
    size = (folder / "concept" / "theta.safetensors").stat().st_size
    assert f"concept in {folder}/concept ({size:,} bytes), pictures in" in printed
    assert re.search(r"load .* s, encode .* s, draw .* s, train .* s", printed)


def test_it_leaves_the_concept(quickstart):
    folder, _ = quickstart
    about = json.loads((folder / "concept" / "concept.json").read_text())
    assert about["step"] == 3
    assert about["base"] == "emoji"
    assert about["method"] == "class_diffusion"
    assert about["prompts"] == [["a photo of a <v1> penguin"]]
    assert about["concepts"][0]["phrase"] == "<v1> penguin"
    assert about["config"]["steps"] == 3
    assert (folder / "concept" / "theta.safetensors").is_file()


def test_it_leaves_what_it_ran_with(quickstart):
    folder, _ = quickstart
    record = json.loads((folder / "run.json").read_text())
    assert record["data"]["base"] == load_base("emoji").fingerprint
    assert set(record["data"]) == {"base", "pictures 0"}
    assert record["versions"]["jax"] == jax.__version__
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config == record["config"]
    assert (config["steps"], config["batch"], config["seed"]) == (3, 2, 0)


def test_it_leaves_a_line_of_metrics_for_each_step(quickstart):
    lines = read_metrics(quickstart[0])
    losses = [line for line in lines if "loss" in line]
    assert [line["step"] for line in losses] == [1, 2, 3]
    config = yaml.safe_load((quickstart[0] / "config.yaml").read_text())
    for line in losses:
        assert line["learning_rate"] == config["optimizer"]["learning_rate"]
        weight = config["method_args"]["semantic_weight"]
        terms = line["loss/denoising"] + weight * line["loss/semantic"]
        assert line["loss"] == pytest.approx(terms, rel=1e-6)
        assert {"gradient_norm", "theta_norm"} < line.keys()
    checks = [line for line in lines if "validation/loss" in line]
    assert [line["step"] for line in checks] == [0, 2]


def test_it_leaves_sheets_at_the_start_on_the_way_and_at_the_end(quickstart):
    folder, _ = quickstart
    names = sorted(file.name for file in (folder / "samples").iterdir())
    assert names == ["step_000000.png", "step_000002.png"]
    for file in (folder / "samples" / names[0], folder / "grid.png"):
        with Image.open(file) as sheet:
            assert min(sheet.size) > 300


def test_it_leaves_checkpoints_and_tensorboard_s_events(quickstart):
    folder, _ = quickstart
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["3"]
    (events,) = (folder / "tensorboard").iterdir()
    written = events.read_bytes()
    tags = ("loss/semantic", "validation/loss", "steps_per_second", "samples")
    assert all(tag.encode() in written for tag in tags)


def test_its_own_config_passes_back_and_is_recognised_as_finished(quickstart):
    folder, _ = quickstart
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = run(
        "personax.train", f"--config={folder / 'config.yaml'}", f"--workdir={folder}"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{folder} is finished after 3 steps: {folder}/concept\n"
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before == after


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config.stepz=3"], 'Did you mean "steps"'),
        (["--config.batch=many"], "many"),
        (["--config.concept.images=/nowhere"], "'/nowhere' is neither a folder nor"),
    ],
)
def test_the_command_refuses_in_one_sentence(arguments, sentence, tmp_path):
    folder = tmp_path / "run"
    done = run(
        "personax.train",
        "--config=configs/quickstart.py",
        f"--workdir={folder}",
        *arguments,
    )
    check_refusal(done, sentence)
    assert not folder.exists()


def test_a_config_that_does_not_exist_is_refused(tmp_path):
    done = run(
        "personax.train", "--config=configs/quikstart.py", f"--workdir={tmp_path}"
    )
    check_refusal(done, "configs/quikstart.py")


@pytest.fixture
def refusal(monkeypatch, capsys, emoji):
    """What is said about the quickstart's config with some values changed."""
    real = load_base

    def cached(source, **options):
        # Reading the base takes longer than all that follows.
        return emoji if source == "emoji" else real(source, **options)

    monkeypatch.setattr("personax.training.setup.load_base", cached)

    def print_on_host0(changes):
        config = importlib.import_module("configs.quickstart").get_config()
        for key, value in changes.items():
            *inner, last = key.split(".")
            place = config
            for name in inner:
                place = place[name]
            place[last] = value
        return refused(capsys, command.exit_on_user_error()(prepare), config)

    return print_on_host0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base": "/nowhere"}, "/nowhere"),
        ({"before": ("/nowhere",)}, "/nowhere holds no concept.json"),
        ({"method": "lora2"}, "No method 'lora2'; there are: custom_diffusion"),
        ({"method_args.trian": "kv"}, "takes no 'trian'; it takes: "),
        ({"method_args.train": "unet/.*/attn3/.*"}, "Nearest paths: unet/"),
        ({"method_args.rank": -1}, "The rank -1 of a low-rank update"),
        ({"concept.images": "dgo"}, "neither a folder nor a bundled subject"),
        ({"concept.placeholder": "dog"}, "is a word of the vocabulary"),
        (
            {"concept.prompt": "a photo of a <v1> dog", "concept.class_word": "cat"},
            "does not hold the phrase '<v1> cat'",
        ),
        ({"concept.initial": "zzzzz"}, "no entry 'zzzzz'"),
        ({"concepts_list": "/nowhere.json"}, "/nowhere.json"),
        ({"preview.prompts": ("a <v7> dog",)}, "<v7> in 'a <v7> dog'"),
        ({"data.augment": "papr"}, "no augmentation 'papr'; there are none, paper"),
        ({"data.crop": "center"}, "no crop 'center'"),
        ({"data.caption_dropout": 2.0}, "caption_dropout is 2.0"),
        ({"data.augment": "paper", "data.shrink": (0.1, 0.5)}, "no whole latent cell"),
        ({"prior.source": "laion"}, "no regularisation source 'laion'"),
        ({"prior.source": "folder"}, "A folder regularisation set needs images"),
        (
            {"prior.source": "world", "concept.class_word": "sofa"},
            "emoji world has no class 'sofa'",
        ),
        ({"optimizer.name": "adam"}, "No optimiser 'adam'; there are: adamw"),
        ({"optimizer.learning_rates.token": 1e-3}, "no part 'token'; nearest: tokens"),
        ({"optimizer.schedule": "cos"}, "No schedule 'cos'"),
        ({"optimizer.warmup": 250}, "leaves nothing of 250 steps"),
        ({"optimizer.learning_rate": 0.0}, "learning_rate is 0.0"),
        ({"dtype": "float8"}, "float32, bfloat16, float16"),
        ({"size": 30}, "30"),
        ({"seed": -1}, "seed is -1"),
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"preview.steps": 0}, "preview.steps is 0; it must be at least 1"),
        ({"batch": 3}, "A batch of 6 examples does not divide by the 8 devices"),
        ({"mesh.shape.fsdp": 3}, "does not fit 8 devices"),
        ({"mesh.theta_rules": ((".*", "split"),)}, "replicate or shard"),
        (
            {"mesh.theta_rules": (("wieghts/.*", "shard"), (".*", "replicate"))},
            "rule 'wieghts/.*' matches no path; nearest: ",
        ),
        (
            {"mesh.base_rules": (("uent/.*", "shard"), (".*", "replicate"))},
            "rule 'uent/.*' matches no path; nearest: ",
        ),
        ({"validation.images": "dgo"}, "neither a folder nor a bundled subject"),
    ],
)
def test_a_config_is_refused_before_any_computation(refusal, changes, sentence):
    assert sentence in refusal(changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "people"}, "no set 'people' of pictures; there are portraits:peop"),
        ({"captions": "mine"}, "no captions 'mine'; there are: prompt, own, none"),
        ({"crop": "center"}, "no crop 'center'"),
        ({"source": "cache:/nowhere"}, "/nowhere holds no cache.json"),
        (
            {"prior.source": "world"},
            "no regularisation set beside it: --config.prior.s",
        ),
        (
            {"data.flip": True},
            "data.flip is for few pictures; a stream has",
        ),
        ({"data.augment": "paper"}, "data.augment is for few pictures"),
        ({"data.caption_dropout": 2.0}, "caption_dropout is 2.0"),
        ({"validation.images": "cat"}, "holds out validation.count of its own"),
        ({"validation.count": 50}, "Of 50 pictures 50 cannot be held out"),
        ({"batch": 3}, "A batch of 3 examples does not divide by the 8 devices"),
    ],
)
def test_a_stream_is_refused_before_any_computation(refusal, changes, sentence):
    stream = {"source": "portraits:people:50", "prior.source": "", "batch": 8}
    inner = ("source", "captions", "crop")
    changed = {**stream, **changes}
    assert sentence in refusal(
        {f"stream.{k}" if k in inner else k: value for k, value in changed.items()}
    )


def test_a_stream_teaches_one_concept(refusal, tmp_path):
    file = tmp_path / "concepts.json"
    file.write_text(json.dumps([{}, {"placeholder": "<v2>", "class_word": "cat"}]))
    changes = {"concepts_list": str(file), "prior.source": "", "batch": 8}
    said = refusal({**changes, "stream.source": "portraits:people:50"})
    assert "A stream teaches one concept" in said


def test_pictures_that_are_none_or_tiny_are_refused_by_name(refusal, tmp_path):
    changes = {"concept.images": str(tmp_path)}
    assert f"{tmp_path} holds no picture" in refusal(changes)
    (tmp_path / "a.png").write_text("no picture")
    assert f"{tmp_path / 'a.png'} cannot be read as a picture" in refusal(changes)
    Image.fromarray(np.zeros((40, 15, 3), np.uint8)).save(tmp_path / "a.png")
    assert f"{tmp_path / 'a.png'} is 15x40 pixels" in refusal(changes)


def test_two_concepts_of_a_list_cannot_share_a_placeholder(refusal, tmp_path):
    file = tmp_path / "concepts.json"
    file.write_text(json.dumps([{}, {"images": "cat", "class_word": "cat"}]))
    assert "'<v1>' exists" in refusal({"concepts_list": str(file)})


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1", "not the config of a run"),
        ("base: x", "not the config of a run"),
    ],
)
def test_a_yaml_file_that_is_no_config_is_refused(text, sentence, tmp_path):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match=sentence):
        get_config(str(tmp_path / "config.yaml"))


def test_a_yaml_file_gives_back_every_value(tmp_path):
    config = importlib.import_module("configs.quickstart").get_config()
    config.data.shrink, config.optimizer.learning_rate = (0.4, 1.0), 1e-5
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(plain(config.to_dict())))
    assert get_config(str(path)) == config

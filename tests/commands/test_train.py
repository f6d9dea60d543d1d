"""The training command: what it writes, and its errors."""

import importlib
import json
import re
import tomllib

import jax
import numpy as np
import pytest
import yaml
from PIL import Image

from personax.cli import command
from personax.core.files import read_journal
from personax.loading import load_base
from personax.training.config import TrainConfig, load_config, train_config
from personax.training.setup import prepare
from personax.training.workdir import record
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
    """(the work directory of a run of three steps, its output)."""
    folder = tmp_path_factory.mktemp("runs") / "quickstart"
    result = run(
        "personax.train",
        "--config=configs/quickstart.py",
        f"--workdir={folder}",
        *SHORT,
    )
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_the_output_lists_the_parameters_and_the_results(quickstart):
    folder, printed = quickstart
    assert re.search(r"training weights: [\d,]+ parameters in 14 arrays", printed)
    assert "training tokens: 128 parameters in 1 arrays" in printed
    size = (folder / "concept" / "theta.safetensors").stat().st_size
    assert f"concept in {folder}/concept ({size:,} bytes), pictures in" in printed
    assert re.search(r"load .* s, encode .* s, draw .* s, train .* s", printed)


def test_a_run_writes_the_concept(quickstart):
    folder, _ = quickstart
    about = json.loads((folder / "concept" / "concept.json").read_text())
    assert about["step"] == 3
    assert about["base"] == "emoji"
    assert about["method"] == "class_diffusion"
    assert about["prompts"] == [["a photo of a <v1> penguin"]]
    assert about["concepts"][0]["phrase"] == "<v1> penguin"
    assert about["config"]["steps"] == 3
    assert (folder / "concept" / "theta.safetensors").is_file()


def test_a_run_records_its_config_data_and_versions(quickstart):
    folder, _ = quickstart
    info = json.loads((folder / "run.json").read_text())
    assert info["data"]["base"] == load_base("emoji").fingerprint
    assert set(info["data"]) == {"base", "base settings", "pictures 0", "words 0"}
    assert info["versions"]["jax"] == jax.__version__
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config == info["config"]
    assert (config["steps"], config["batch"], config["seed"]) == (3, 2, 0)


def test_a_run_writes_a_line_of_metrics_for_each_step(quickstart):
    lines = read_journal(quickstart[0] / "metrics.jsonl")
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


def test_a_run_draws_sheets_at_the_start_at_intervals_and_at_the_end(quickstart):
    folder, _ = quickstart
    names = sorted(file.name for file in (folder / "samples").iterdir())
    assert names == ["step_000000.png", "step_000002.png"]
    for file in (folder / "samples" / names[0], folder / "grid.png"):
        with Image.open(file) as sheet:
            assert min(sheet.size) > 300


def test_a_run_writes_checkpoints_and_tensorboard_events(quickstart):
    folder, _ = quickstart
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["3"]
    (events,) = (folder / "tensorboard").iterdir()
    written = events.read_bytes()
    tags = ("loss/semantic", "validation/loss", "steps_per_second", "samples")
    assert all(tag.encode() in written for tag in tags)


def test_its_own_config_file_is_recognised_as_finished(quickstart):
    folder, _ = quickstart
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    result = run(
        "personax.train", f"--config={folder / 'config.yaml'}", f"--workdir={folder}"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"{folder} is finished after 3 steps: {folder}/concept\n"
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert before == after


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config.stepz=3"], 'Did you mean "steps"'),
        (["--config.batch=many"], "many"),
        (["--config.concept.images=/nowhere"], "'/nowhere' is neither a folder nor"),
        (["--config.batch=0"], "batch=0: expected a value >= 1"),
    ],
)
def test_the_command_fails_with_one_line(arguments, sentence, tmp_path):
    folder = tmp_path / "run"
    result = run(
        "personax.train",
        "--config=configs/quickstart.py",
        f"--workdir={folder}",
        *arguments,
    )
    check_refusal(result, sentence)
    assert not folder.exists()


def test_a_missing_config_is_an_error(tmp_path):
    result = run(
        "personax.train", "--config=configs/quikstart.py", f"--workdir={tmp_path}"
    )
    check_refusal(result, "configs/quikstart.py")


@pytest.fixture
def refusal(monkeypatch, capsys, emoji):
    """The error of the quickstart's config with some values changed."""
    real = load_base

    def cached(source, **options):
        # Loading the base takes longer than the rest.
        return emoji if source == "emoji" else real(source, **options)

    monkeypatch.setattr("personax.training.setup.load_base", cached)

    def error_of(changes):
        config = importlib.import_module("configs.quickstart").get_config()
        for key, value in changes.items():
            *inner, last = key.split(".")
            place = config
            for name in inner:
                place = place[name]
            place[last] = value
        return refused(capsys, command.exit_on_user_error()(prepare), config)

    return error_of


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"base": "/nowhere"}, "/nowhere"),
        ({"before": ("/nowhere",)}, "/nowhere holds no concept.json"),
        ({"method": "lora2"}, "Unknown method 'lora2'; expected one of custom_d"),
        ({"method_args.trian": "kv"}, "no argument 'trian'; expected one of "),
        ({"method_args.train": "unet/.*/attn3/.*"}, "Nearest paths: unet/"),
        ({"method_args.rank": -1}, "method_args.rank=-1: expected a value >= 0"),
        ({"concept.images": "dgo"}, "neither a folder nor a bundled subject"),
        ({"concept.placeholder": "dog"}, "is a word of the vocabulary"),
        (
            {"concept.prompt": "a photo of a <v1> dog", "concept.class_word": "cat"},
            "does not hold the phrase '<v1> cat'",
        ),
        ({"concept.initial": "zzzzz"}, "no entry 'zzzzz'"),
        ({"concepts_list": "/nowhere.json"}, "/nowhere.json"),
        (
            {"preview.prompts": ("a <v7> dog",)},
            "<v7> in 'a <v7> dog'",
        ),
        ({"data.augment": "papr"}, "data.augment='papr': expected one of none, paper"),
        ({"data.crop": "center"}, "data.crop='center': expected one of centre"),
        ({"data.caption_dropout": 2.0}, "data.caption_dropout=2.0: expected"),
        ({"data.augment": "paper", "data.shrink": (0.1, 0.5)}, "no whole latent cell"),
        ({"prior.source": "laion"}, "prior.source='laion': expected one of gener"),
        (
            {"prior.source": "folder"},
            "A folder regularisation set needs concept",
        ),
        (
            {"prior.source": "world", "concept.class_word": "sofa"},
            "emoji world has no class 'sofa'",
        ),
        ({"optimizer.name": "adam"}, "optimizer.name='adam': expected one of adamw"),
        ({"optimizer.learning_rates.token": 1e-3}, "no part 'token'; nearest: tokens"),
        ({"optimizer.schedule": "cos"}, "expected one of constant, linear, cosine"),
        ({"optimizer.warmup": 250}, "warmup=250: expected less than the 250 steps"),
        (
            {"optimizer.learning_rate": 0.0},
            "learning_rate=0.0: expected a value >= 1e-12",
        ),
        ({"dtype": "float8"}, "float32, bfloat16, float16"),
        ({"size": 30}, "30"),
        ({"seed": -1}, "seed=-1: expected a value >= 0"),
        ({"steps": 0}, "steps=0: expected a value >= 1"),
        ({"preview.steps": 0}, "preview.steps=0: expected a value >= 1"),
        ({"batch": 3}, "A batch of 6 examples is not divisible by the 8"),
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
        ({"concept.captions": "own"}, "The bundled subject 'penguin' has no captions"),
        ({"validation.images": "dgo"}, "neither a folder nor a bundled subject"),
    ],
)
def test_an_invalid_config_fails_before_any_computation(refusal, changes, sentence):
    assert sentence in refusal(changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"source": "people"}, "Unknown picture set 'people'; expected one of portr"),
        ({"captions": "mine"}, "captions='mine': expected one of prompt, own, none"),
        ({"crop": "center"}, "stream.crop='center': expected one of centre"),
        ({"source": "cache:/nowhere"}, "/nowhere holds no cache.json"),
        (
            {"prior.source": "world"},
            "stream.source and prior.source are mutually excl",
        ),
        (
            {"data.flip": True},
            "data.flip applies to few pictures; a stream has",
        ),
        ({"data.augment": "paper"}, "data.augment applies to few pictures"),
        ({"data.caption_dropout": 2.0}, "data.caption_dropout=2.0: expected"),
        ({"validation.images": "cat"}, "holds out validation.count of its own"),
        ({"validation.count": 50}, "Cannot hold out 50 of 50 pictures"),
        ({"batch": 3}, "A batch of 3 examples is not divisible by the 8"),
        ({"concept.captions": "own"}, "a stream has stream.captions own"),
    ],
)
def test_an_invalid_stream_fails_before_any_computation(refusal, changes, sentence):
    stream = {"source": "portraits:people:50", "prior.source": "", "batch": 8}
    inner = ("source", "captions", "crop")
    changed = {**stream, **changes}
    assert sentence in refusal(
        {f"stream.{k}" if k in inner else k: value for k, value in changed.items()}
    )


def test_a_stream_trains_one_concept(refusal, tmp_path):
    file = tmp_path / "concepts.json"
    file.write_text(json.dumps([{}, {"placeholder": "<v2>", "class_word": "cat"}]))
    changes = {"concepts_list": str(file), "prior.source": "", "batch": 8}
    error = refusal({**changes, "stream.source": "portraits:people:50"})
    assert "A stream trains one concept" in error


def test_unreadable_and_tiny_pictures_are_an_error_that_names_them(refusal, tmp_path):
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
    ("name", "text", "sentence"),
    [
        ("config.yaml", "a: [", "is not valid YAML"),
        ("config.yaml", "- 1", "is not the config of a run"),
        ("config.yaml", "base: x", "is not the config of a run"),
        ("x.toml", "base = ", "x.toml is not valid TOML"),
        ("x.json", "{", "x.json is not valid JSON"),
        (
            "x.toml",
            "base = 'emoji'\nmethod = 'lora'\n[optimizer]\nlearning_rat = 1.0",
            "x.toml: Unknown config key 'optimizer.learning_rat'; nearest: "
            "optimizer.learning_rate,",
        ),
        ("x.toml", "base = 'emoji'\nmethod = 1", "x.toml: method=1: expected a string"),
        ("x.ini", "", r"x.ini is no config file; expected .py, .yaml, .yml, .toml, .j"),
    ],
)
def test_an_invalid_config_file_is_an_error(name, text, sentence, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_config(str(tmp_path / name))


TOML = """
base = "emoji"
method = "lora"
before = ["runs/cat/concept"]
[method_args]
rank = 2
[data]
shrink = [0.4, 1.0]
"""


def test_toml_and_json_hold_the_tree_of_yaml(tmp_path):
    values = tomllib.loads(TOML)
    (tmp_path / "x.toml").write_text(TOML)
    (tmp_path / "x.json").write_text(json.dumps(values))
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(values))
    toml, *others = (
        load_config(str(tmp_path / f"x.{s}")) for s in ("toml", "json", "yaml")
    )
    assert others == [toml, toml]
    assert (toml.before, toml.data.shrink) == (("runs/cat/concept",), (0.4, 1.0))
    assert toml.method_args.rank == 2
    # What the file leaves out may be set on the command line.
    assert toml.optimizer.learning_rate == TrainConfig().optimizer.learning_rate


@pytest.mark.parametrize("form", ["--config={}", "--config {}"])
def test_the_command_reads_toml_and_does_not_execute_it(form, tmp_path, capsys):
    file = tmp_path / "x.toml"
    file.write_text(TOML)
    rewritten = command._through_config_file(["train", *form.format(file).split()])
    assert rewritten[-1].endswith(f"config_file.py:{file}")
    unchanged = ["train", "--config.seed=3", "--workdir", "x.ini"]
    assert command._through_config_file(unchanged) == unchanged
    with pytest.raises(ValueError, match=r"x\.ini is no config file"):
        load_config("x.ini")


def test_a_yaml_file_gives_back_every_value(tmp_path):
    config = importlib.import_module("configs.quickstart").get_config()
    config.data.shrink, config.optimizer.learning_rate = (0.4, 1.0), 1e-5
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(record(train_config(config))))
    assert load_config(str(path)) == config

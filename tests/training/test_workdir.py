"""Work directories: what a claim records, and which runs may resume."""

import copy
import json
import platform

import jax
import pytest
import yaml

import personax
from configs.common import get_config
from personax.training import workdir
from personax.training.config import train_config

pytestmark = pytest.mark.quick

CONFIG = {
    "base": "emoji",
    "seed": 0,
    "method": "lora",
    "method_args": {},
    "concept": {"phrase": "<v1> dog"},
    "data": {"shrink": (0.4, 1.0)},
    "optimizer": {"learning_rate": 1e-5, "schedule": "constant"},
    "steps": 100,
    "log_every": 10,
    "save_every": 100,
    "keep": 2,
    "preview": {"prompts": ("a photo of a {}",), "every": 0},
    "validation": {"every": 0},
    "mesh": {"shape": {"data": -1, "fsdp": 1}},
}
DATA = {"base": "f00d", "<v1> dog": "cafe"}


def claim(folder, values, data):
    workdir.claim(folder, train_config(values), data)


def changed(path, value):
    config = copy.deepcopy(CONFIG)
    *inner, last = path.split(".")
    place = config
    for key in inner:
        place = place[key]
    place[last] = value
    return config


@pytest.fixture
def begun(tmp_path):
    """A directory with the logs of a run."""
    claim(tmp_path, CONFIG, DATA)
    (tmp_path / "metrics.jsonl").write_text("")
    return tmp_path


def test_a_claim_writes_the_config_and_the_versions(tmp_path):
    folder = tmp_path / "runs" / "dog"
    claim(folder, CONFIG, DATA)
    record = json.loads((folder / "run.json").read_text())
    assert record["data"] == DATA
    assert record["personax"] == personax.__version__
    assert record["python"] == platform.python_version()
    assert record["versions"]["jax"] == jax.__version__
    assert record["devices"].startswith("8 ")
    assert record["config"]["data"]["shrink"] == [0.4, 1.0]
    assert record["config"]["size"] == 0
    assert yaml.safe_load((folder / "config.yaml").read_text()) == record["config"]
    assert sorted(file.name for file in folder.iterdir()) == ["config.yaml", "run.json"]


def test_the_same_config_passes(begun):
    before = (begun / "run.json").read_text()
    claim(begun, CONFIG, DATA)
    assert (begun / "run.json").read_text() == before


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("mesh.shape.fsdp", 8),
        ("log_every", 1),
        ("save_every", 3),
        ("keep", 5),
        ("preview.prompts", ()),
        ("validation.every", 7),
    ],
)
def test_keys_that_do_not_affect_training_may_change(begun, path, value):
    config = changed(path, value)
    claim(begun, config, DATA)
    written = yaml.safe_load((begun / "config.yaml").read_text())
    assert written == workdir.record(train_config(config))


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("seed", 1, "seed was 0 and is 1"),
        (
            "optimizer.learning_rate",
            1e-4,
            "optimizer.learning_rate was 1e-05 and is 0.0001",
        ),
        ("data.shrink", (), r"data.shrink was \[0.4, 1.0\] and is \[\]"),
        ("method_args", {"rank": 8}, "method_args.rank was None and is 8"),
    ],
)
def test_a_changed_config_is_an_error_that_shows_the_change(begun, path, value, shown):
    before = {file: file.read_bytes() for file in begun.iterdir()}
    with pytest.raises(ValueError, match=shown):
        claim(begun, changed(path, value), DATA)
    assert before == {file: file.read_bytes() for file in begun.iterdir()}


def test_a_key_that_an_older_version_lacked_had_its_default(begun):
    file = begun / "run.json"
    run = json.loads(file.read_text())
    del run["config"]["concept"]["captions"]
    file.write_text(json.dumps(run))
    claim(begun, CONFIG, DATA)
    file.write_text(json.dumps(run))
    with pytest.raises(ValueError, match=r"concept\.captions was None and is 'own'"):
        claim(begun, changed("concept.captions", "own"), DATA)


def test_every_difference_is_shown(begun):
    config = changed("seed", 1) | {"base": "other"}
    with pytest.raises(ValueError, match="base was 'emoji' and is 'other'; seed was 0"):
        claim(begun, config, DATA)


@pytest.mark.parametrize("name", DATA)
def test_other_pictures_or_another_base_are_an_error(begun, name):
    with pytest.raises(ValueError, match=f"data.{name} was '{DATA[name]}' and is 'b'"):
        claim(begun, CONFIG, DATA | {name: "b"})


def test_a_run_at_a_constant_rate_may_be_prolonged(begun):
    claim(begun, changed("steps", 200), DATA)
    with pytest.raises(ValueError, match="steps was 200 and is 100"):
        claim(begun, CONFIG, DATA)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_run_whose_rate_depends_on_its_length_may_not(tmp_path, schedule):
    config = changed("optimizer.schedule", schedule)
    claim(tmp_path, config, DATA)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="steps was 100 and is 200"):
        claim(tmp_path, config | {"steps": 200}, DATA)


def test_before_the_first_log_the_config_may_change(tmp_path):
    claim(tmp_path, CONFIG, DATA)
    claim(tmp_path, changed("seed", 1), DATA)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seed"] == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "\0", '{"config": 3, "data": 4}']
)
def test_a_damaged_record_is_an_error(begun, text):
    (begun / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"is damaged, .* choose another --work"):
        claim(begun, CONFIG, DATA)


def test_a_record_written_by_an_earlier_version_is_accepted(tmp_path):
    """The record is the config file's own values, unset ones included."""
    values = get_config().to_dict() | {"method": "lora"}
    claim(tmp_path, values, DATA)
    config = json.loads((tmp_path / "run.json").read_text())["config"]
    assert config == json.loads(json.dumps(values))

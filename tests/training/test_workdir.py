"""What a work directory is claimed for, and how another run is refused."""

import copy
import json
import platform

import jax
import numpy as np
import pytest
import yaml

import personax
from personax.training import workdir

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
    """A directory in which a run has logged."""
    workdir.claim(tmp_path, CONFIG, DATA)
    (tmp_path / "metrics.jsonl").write_text("")
    return tmp_path


def test_a_claim_writes_the_config_and_what_it_ran_on(tmp_path):
    folder = tmp_path / "runs" / "dog"
    workdir.claim(folder, CONFIG, DATA)
    record = json.loads((folder / "run.json").read_text())
    assert record["data"] == DATA
    assert record["personax"] == personax.__version__
    assert record["python"] == platform.python_version()
    assert record["versions"]["jax"] == jax.__version__
    assert record["devices"].startswith("8 ")
    assert record["config"]["data"] == {"shrink": [0.4, 1.0]}
    assert yaml.safe_load((folder / "config.yaml").read_text()) == record["config"]
    assert sorted(file.name for file in folder.iterdir()) == ["config.yaml", "run.json"]


def test_the_same_config_passes(begun):
    before = (begun / "run.json").read_text()
    workdir.claim(begun, CONFIG, DATA)
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
def test_what_changes_no_number_may_differ(begun, path, value):
    config = changed(path, value)
    workdir.claim(begun, config, DATA)
    found = yaml.safe_load((begun / "config.yaml").read_text())
    assert found == workdir.plain(config)


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
def test_a_changed_config_is_refused_and_shown(begun, path, value, shown):
    before = {file: file.read_bytes() for file in begun.iterdir()}
    with pytest.raises(ValueError, match=shown):
        workdir.claim(begun, changed(path, value), DATA)
    assert before == {file: file.read_bytes() for file in begun.iterdir()}


def test_every_difference_is_shown(begun):
    config = changed("seed", 1) | {"base": "other"}
    with pytest.raises(ValueError, match="base was 'emoji' and is 'other'; seed was 0"):
        workdir.claim(begun, config, DATA)


@pytest.mark.parametrize("name", DATA)
def test_other_pictures_or_another_base_are_refused(begun, name):
    with pytest.raises(ValueError, match=f"data.{name} was '{DATA[name]}' and is 'b'"):
        workdir.claim(begun, CONFIG, DATA | {name: "b"})


def test_a_run_at_a_constant_rate_may_be_prolonged(begun):
    workdir.claim(begun, changed("steps", 200), DATA)
    with pytest.raises(ValueError, match="steps was 200 and is 100"):
        workdir.claim(begun, CONFIG, DATA)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_a_run_whose_rate_depends_on_its_length_may_not(tmp_path, schedule):
    config = changed("optimizer.schedule", schedule)
    workdir.claim(tmp_path, config, DATA)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(ValueError, match="steps was 100 and is 200"):
        workdir.claim(tmp_path, config | {"steps": 200}, DATA)


def test_before_the_first_log_a_config_may_be_corrected(tmp_path):
    workdir.claim(tmp_path, CONFIG, DATA)
    workdir.claim(tmp_path, changed("seed", 1), DATA)
    assert yaml.safe_load((tmp_path / "config.yaml").read_text())["seed"] == 1


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", "\0", '{"config": 3, "data": 4}']
)
def test_a_damaged_record_is_refused(begun, text):
    (begun / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run.json is damaged; choose another --work"):
        workdir.claim(begun, CONFIG, DATA)


def test_the_digest_sees_every_pixel_and_the_shape():
    pictures = [np.zeros((4, 6, 3), np.uint8), np.ones((5, 5, 3), np.uint8)]
    other = [pictures[0].copy(), pictures[1]]
    other[0][3, 5, 2] = 1
    turned = [pictures[0].reshape(6, 4, 3), pictures[1]]
    found = [workdir.digest(each) for each in (pictures, other, turned, pictures[::-1])]
    assert len(set(found)) == 4
    assert workdir.digest([p.copy() for p in pictures]) == found[0]

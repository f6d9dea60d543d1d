"""Claims: each config names its command, points are saved, plots and maps."""

import csv
import importlib
import json
import pathlib
from typing import NamedTuple

import numpy as np
import pytest
from ml_collections import ConfigDict

from experiments.claims import plots, training, two_concepts
from experiments.claims.attention_capture import iou, shared_mass
from experiments.claims.claim import SavedPoints, write_csv
from personax.data import emoji
from personax.evaluation.config import read_config
from personax.evaluation.protocol import make_protocol

FILES = sorted(pathlib.Path("configs/claims").glob("*.py"))
NAMES = [file.stem for file in FILES if file.stem != "pictures"]
PROTOCOLS = ("ablations", "alignment_steps", "rate_of_change", "semantic_weight")
DOCS = pathlib.Path("docs/claims.md").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_a_config_names_its_command_and_subjects_that_exist(name):
    module = importlib.import_module(f"configs.claims.{name}")
    config, text = module.get_config(), " ".join(module.__doc__.split())
    command = "personax.evaluate" if name in PROTOCOLS else f"experiments.claims.{name}"
    for where in (text, " ".join(DOCS.split())):
        assert (
            f"python -m {command} --config configs/claims/{name}.py"
            in where.replace(" \\", "")
        )
    assert "holds if" in text
    if name in PROTOCOLS:
        protocol = make_protocol(read_config(config))
        assert len(protocol.singles) == len(config.subjects.names)
        assert list(protocol.rows) == list(config.rows)
        return
    named = [*config.get("subjects", ()), *sum(config.get("pairs", ()), ())]
    assert set(named) <= emoji.subjects().keys()
    claim = importlib.import_module(f"experiments.claims.{name}")
    assert callable(claim.measure)
    assert callable(claim.draw)


def test_points_are_computed_once_per_key(tmp_path):
    calls = []

    def make():
        calls.append(1)
        return {"value": np.float64(0.5)}

    saved = SavedPoints(tmp_path)
    assert saved({"steps": 2}, make) == saved({"steps": 2}, make) == {"value": 0.5}
    assert SavedPoints(tmp_path)({"steps": 2}, make) == {"value": 0.5}
    assert len(calls) == 1
    saved({"steps": 3}, make)
    assert len(calls) == 2


def test_a_csv_has_every_key_that_any_point_has(tmp_path):
    write_csv(tmp_path / "points.csv", [{"a": 1}, {"b": 2, "a": 3}])
    text = (tmp_path / "points.csv").read_text()
    assert list(csv.reader(text.splitlines())) == [["a", "b"], ["1", ""], ["3", "2"]]


def test_the_error_of_a_mean_is_over_subjects_or_else_the_points_own():
    points = [{"x": 1.0, "x_error": 9.0}, {"x": 3.0}, {"y": 5.0}]
    assert plots.mean(points, "x") == (2.0, 1.0)
    assert plots.mean(points[:1], "x") == (1.0, 9.0)
    assert np.isnan(plots.mean(points, "z").value)


def test_overlap_of_maps_has_closed_forms():
    """Two bars of four columns each, that share two of them."""
    one, other = np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32)
    one[:, :, :4], other[:, :, 2:6] = 0.1, 0.7
    np.testing.assert_allclose(shared_mass(one, other), 0.5, rtol=1e-6)
    np.testing.assert_allclose(iou(one, other), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(shared_mass(one, one), 1, rtol=1e-6)
    np.testing.assert_allclose(shared_mass(one, one[:, :, ::-1]), 0)


class Trainings(NamedTuple):
    runs: list  # [(steps, checkpoints at the start)]
    configs: list


@pytest.fixture
def trainer(monkeypatch):
    """The trainings of a test, which only write files."""
    runs, configs = [], []

    def train_to_end(config, folder):
        state = folder / "checkpoints"
        before = sorted(path.name for path in state.glob("*"))
        runs.append((config.steps, before))
        configs.append(config)
        for path in (folder / "concept", state):
            path.mkdir(parents=True, exist_ok=True)
        (folder / "concept" / "concept.json").write_text("{}")
        (state / str(config.steps)).write_text("")

    for module in (training, two_concepts):
        monkeypatch.setattr(module, "train_to_end", train_to_end)
    return Trainings(runs, configs)


def config(**changes):
    options = {"schedule": "constant", "learning_rate": 1e-3}
    return ConfigDict({"steps": 4, "optimizer": {**options, **changes}})


def test_a_trajectory_resumes_from_the_checkpoint_before(trainer, tmp_path):
    concepts = training.training_trajectory(config(), (4, 2), tmp_path)
    assert list(concepts) == [2, 4]
    assert trainer.runs == [(2, []), (4, ["2"])]
    assert all((path / "concept.json").is_file() for path in concepts.values())
    # Another number of steps in the config is the same trajectory.
    longer = config()
    longer.steps = 8
    again = training.training_trajectory(longer, (2, 8), tmp_path)
    assert again[2] == concepts[2]
    assert trainer.runs[2:] == [(8, ["2"])]


def test_a_trajectory_needs_a_constant_learning_rate(trainer, tmp_path):
    with pytest.raises(ValueError, match="constant learning rate, not"):
        training.training_trajectory(config(schedule="cosine"), (1, 2), tmp_path)
    assert not trainer.runs


def test_one_stop_may_have_any_schedule(trainer, tmp_path):
    concept = training.train_concept(config(schedule="cosine"), tmp_path)
    assert (concept / "concept.json").is_file()
    assert trainer.runs == [(4, [])]


@pytest.fixture
def pair(tmp_path):
    return two_concepts.Composition(None, ("dog", "cat"), 3, tmp_path)


def test_joint_training_takes_the_steps_of_both_concepts(trainer, pair):
    (concept,) = pair.joint()
    (joint,) = trainer.configs
    assert joint.steps == 6
    entries = json.loads(pathlib.Path(joint.concepts_list).read_text())
    assert [entry["images"] for entry in entries] == ["dog", "cat"]
    assert [entry["placeholder"] for entry in entries] == ["<v1>", "<v2>"]
    assert pathlib.Path(concept, "concept.json").is_file()


def test_sequential_training_starts_from_the_concept_before(trainer, pair):
    (concept,) = pair.sequential()
    *_, last = trainer.configs
    assert (last.concept.images, last.concept.placeholder) == ("cat", "<v2>")
    assert last.before == (pair.separate()[0],)
    assert last.steps == 3
    assert pathlib.Path(concept, "concept.json").is_file()


def test_separate_tokens_get_their_own_placeholders(trainer, pair):
    one, other = pair.two_tokens()
    assert one.startswith("<v1>=")
    assert other.startswith("<v2>=")
    methods = [training.method for training in trainer.configs]
    assert methods == ["textual_inversion"] * 2

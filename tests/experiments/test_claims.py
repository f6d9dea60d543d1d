"""The claims' commands: every config has its module, and what is done is kept."""

import csv
import importlib
import inspect
import pathlib

import numpy as np
import pytest

from experiments.claims.claim import SavedPoints, write_csv
from experiments.claims.overlap import iou, shared
from personax.data import emoji

FILES = sorted(pathlib.Path("configs/claims").glob("*.py"))
NAMES = [file.stem for file in FILES if file.stem != "pictures"]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_says_its_command_and_names_subjects_that_exist(name):
    module = importlib.import_module(f"configs.claims.{name}")
    config = module.get_config()
    assert f"experiments.claims.{name}" in module.__doc__
    assert "holds if" in " ".join(module.__doc__.split())
    named = [*config.get("subjects", ()), *config.get("pair", ())]
    assert set(named) <= emoji.subjects().keys()
    claim = importlib.import_module(f"experiments.claims.{name}")
    assert list(inspect.signature(claim.measure).parameters) == ["config", "kept"]
    assert list(inspect.signature(claim.draw).parameters) == ["points", "path"]


def test_what_is_kept_is_made_once_for_each_key(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"value": np.float64(0.5)}

    kept = SavedPoints(tmp_path)
    assert kept({"steps": 2}, make) == kept({"steps": 2}, make) == {"value": 0.5}
    assert SavedPoints(tmp_path)({"steps": 2}, make) == {"value": 0.5}
    assert len(made) == 1
    kept({"steps": 3}, make)
    assert len(made) == 2


def test_a_csv_has_every_key_that_any_point_has(tmp_path):
    write_csv(tmp_path / "points.csv", [{"a": 1}, {"b": 2, "a": 3}])
    text = (tmp_path / "points.csv").read_text()
    assert list(csv.reader(text.splitlines())) == [["a", "b"], ["1", ""], ["3", "2"]]


def test_overlap_of_maps_has_closed_forms():
    """Two bars of four columns each, that share two of them."""
    one, other = np.zeros((1, 8, 8), np.float32), np.zeros((1, 8, 8), np.float32)
    one[:, :, :4], other[:, :, 2:6] = 0.1, 0.7
    np.testing.assert_allclose(shared(one, other), 0.5, rtol=1e-6)
    np.testing.assert_allclose(iou(one, other), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(shared(one, one), 1, rtol=1e-6)
    np.testing.assert_allclose(shared(one, one[:, :, ::-1]), 0)

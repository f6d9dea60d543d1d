"""The search over weights: its results, the best of them, and the command's files."""

import json

import numpy as np
import pytest
from PIL import Image

from personax import search
from personax.loading import load_clip
from personax.metrics.clip import make_scores
from personax.sampling.guidance_search import Axis, find_best, resume
from personax.sampling.guidance_search import search as run_search
from personax.sampling.score_plot import write_heat_map
from tests.commands.test_commands import run
from tests.in_process import make_call
from tests.refusing import refused
from tests.small_models import write_concept, write_small

AXES = [Axis("a dog", "base", (0.0, 1.0)), Axis("", "face", (0.5, 1.0, 1.5))]
SCORES = {"bright": lambda pictures: np.mean(pictures), "dark": lambda _: 0.5}


def lines(folder):
    """The journal's records."""
    text = (folder / "cells.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def paint(weights):
    """Two pictures, as bright as the weights say."""
    painted.append(weights)
    level = int(20 * weights[0] + 10 * weights[1])
    return [np.full((4, 4, 3), level, np.uint8), np.zeros((4, 4, 3), np.uint8)]


painted: list = []


def test_a_search_that_was_broken_off_goes_on(tmp_path):
    painted.clear()
    known = resume(tmp_path, {"seed": 0})
    cells = run_search(tmp_path, AXES, paint, SCORES, known)
    first = [next(cells) for _ in range(4)]
    journal = tmp_path / "cells.jsonl"
    journal.write_text(journal.read_text() + '{"weights": [1')  # as a kill leaves it
    known = resume(tmp_path, {"seed": 0})
    assert list(known.values()) == first
    cells = list(run_search(tmp_path, AXES, paint, SCORES, known))
    every = [(a, b) for a in AXES[0].values for b in AXES[1].values]
    assert painted == [cell.weights for cell in cells] == every
    assert [line["file"] for line in lines(tmp_path)] == [cell.file for cell in cells]
    strip = np.asarray(Image.open(tmp_path / cells[-1].file))
    assert strip.shape == (4, 8, 3)
    assert strip[0, 0, 0] == 35
    # A larger grid keeps what there is.
    wider = [AXES[0]._replace(values=(0.0, 1.0, 2.0)), AXES[1]]
    list(run_search(tmp_path, wider, paint, SCORES, resume(tmp_path, {"seed": 0})))
    assert len(painted) == 9


def test_another_search_in_the_folder_is_refused(tmp_path):
    resume(tmp_path, {"seed": 0, "steps": 5})
    with pytest.raises(ValueError, match=r"another search \(other steps\)"):
        resume(tmp_path, {"seed": 0, "steps": 6})


def test_the_best_of_all_scores_is_good_by_each(tmp_path):
    table = {(0.0,): (0.9, 0.0), (1.0,): (0.8, 0.9), (2.0,): (0.0, 1.0)}
    scores = {
        name: lambda pictures, i=i: table[(float(pictures[0][0, 0, 0]),)][i]
        for i, name in enumerate(["text", "image"])
    }
    axes = [Axis("", "base", (0.0, 1.0, 2.0))]

    def flat(weights):
        return [np.full((2, 2, 3), int(weights[0]), np.uint8)]

    best = find_best(list(run_search(tmp_path, axes, flat, scores, {})))
    assert {name: cell.weights[0] for name, cell in best.items()} == {
        "text": 0,
        "image": 2,
        "all": 1,
    }


def test_scores_know_a_colour_and_a_picture():
    red, blue = (np.zeros((40, 40, 3), np.uint8) for _ in range(2))
    red[..., 0], blue[..., 2] = 255, 255
    clip = load_clip()
    scores = make_scores(clip, text="on a red background", reference=[red, red])
    assert scores["text"]([red, red]) > scores["text"]([blue, blue])
    np.testing.assert_allclose(scores["image"]([red, red]), 1, atol=1e-5)
    assert scores["image"]([red, blue]) < 0.99
    assert list(make_scores(clip, text="a dog")) == ["text"]


@pytest.mark.parametrize("rows", [1, 3])
def test_the_heat_map_has_a_panel_for_each_score(tmp_path, rows):
    values = np.arange(4.0 * rows).reshape(rows, 4)
    write_heat_map(
        tmp_path / "map.png",
        {"text": values, "image": -values},
        rows=("down", [0.0, 1.0, 2.0][:rows]),
        columns=("across", (0.0, 0.25, 0.5, 0.75)),
    )
    with Image.open(tmp_path / "map.png") as image:
        assert image.size == (1320, 552)
        assert len(image.getcolors(1 << 20)) > 50


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    write_concept(root / "face", write_small(root / "base"))
    return root


def test_the_command_scores_every_cell_and_shows_them(disk, tmp_path):
    arguments = [
        f"--base={disk / 'base'}",
        f"--model=face={disk / 'face'}",
        "--axis=face@0..1/0.5:",
        "--axis=0..2/2:a dog",
        "--term=1[0,0.5]:at night",
        "--reference=dog",
        "--size=16",
        "--steps=2",
        "--num_images=2",
        f"--out={tmp_path}",
    ]
    done = run("personax.search", *arguments)
    assert done.returncode == 0, done.stderr
    results = lines(tmp_path)
    assert [line["weights"] for line in results] == [
        [a, b] for a in (0, 0.5, 1) for b in (0, 2)
    ]
    assert all(set(line["scores"]) == {"text", "image"} for line in results)
    best = json.loads((tmp_path / "best.json").read_text())
    top = max(results, key=lambda line: line["scores"]["image"])
    assert best["image"]["weights"] == top["weights"]
    assert best["image"]["terms"][0] == f"face@{top['weights'][0]:g}:"
    assert "best by all: --term" in done.stdout
    for name in ("grid.png", "heat_map.png"):
        with Image.open(tmp_path / name) as sheet:
            assert min(sheet.size) > 2 * 128


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "add an --axis"),
        (["--axis=a dog"], "FROM..TO"),
        (["--axis=0..1:"], "--score_text or --reference"),
        (["--axis=0..1:a", "--reference=nothing"], "neither a folder nor a bundled"),
        (["--axis=face@0..1:a"], "Unknown model 'face'"),
    ],
)
def test_what_cannot_be_searched_is_refused(
    disk, tmp_path, monkeypatch, capsys, arguments, sentence
):
    call = make_call(search, monkeypatch)
    out = tmp_path / "out"
    given = [f"--base={disk / 'base'}", "--size=16", f"--out={out}", *arguments]
    assert sentence in refused(capsys, call, *given)
    assert not out.exists()


def test_without_matplotlib_it_says_how_to_get_it(disk, monkeypatch, capsys):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refused(capsys, make_call(search, monkeypatch), "--axis=0..1:a dog")
    assert "pip install 'personax[plot]'" in line

"""The commands as a user runs them: what they write, and how they refuse."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from personax import sample
from personax.methods import Concept
from personax.networks.tokenizer import vocabulary_id
from tests.fast import FAST
from tests.in_process import make_call
from tests.refusing import refused
from tests.untrained import save_untrained

ROOT = pathlib.Path(__file__).parents[2]


def run(*arguments, cwd=ROOT, xla=FAST):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": xla}
    return subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=600,
    )


def check_refusal(done, sentence):
    """Status 2, and the last line is the one sentence, without a traceback."""
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("personax: ")
    assert sentence in last
    assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def concept(emoji, tmp_path_factory):
    """A concept as no training at all leaves it."""
    folder = tmp_path_factory.mktemp("concept") / "concept"
    row = vocabulary_id(emoji.tokenizer, "fores")
    dog = Concept("<v1>", "dog", (emoji.tokenizer.size,), (row,), "<v1> dog")
    save_untrained(folder, emoji, dog, "class_diffusion")
    return folder


def test_sample_draws_the_concept_and_says_so_in_every_file(concept, tmp_path):
    done = run(
        "personax.sample",
        f"--concept={concept}",
        "--prompt=a photo of a <v1> dog at night",
        "--term=-1:a cat",
        "--negative=in the snow",
        "--num_images=3",
        "--batch=2",
        "--steps=2",
        "--seed=5",
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"load .* s, compile .* s, sample .* s, decode .* s", done.stdout)
    files = sorted(file.name for file in tmp_path.iterdir())
    assert files == ["0000.png", "0001.png", "0002.png", "grid.png", "samples.json"]
    with Image.open(tmp_path / "0002.png") as image:
        assert image.size == (32, 32)
        text = image.text["parameters"]
    first, second, third = text.split("\n")
    assert first.startswith("a photo of a <v1> dog at night")
    assert second == "Negative prompt: in the snow"
    assert "Steps: 2" in third
    assert "Seed: 5" in third
    record = json.loads((tmp_path / "samples.json").read_text())
    assert [sample["file"] for sample in record["samples"]] == files[:3]
    assert [term["weight"] for term in record["terms"]] == [3.0, -1.0]


def test_sample_shows_where_words_look(tmp_path):
    done = run(
        "personax.sample",
        "--prompt=a photo of a dog wearing a top hat",
        "--attention=top hat,dog",
        "--num_images=3",
        "--batch=2",
        "--steps=2",
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "attention.npz") as arrays:
        assert list(arrays) == ["top hat", "dog"]
        for maps in arrays.values():
            assert maps.shape == (3, 8, 8)
            assert 0 < maps.max() < 1
    with Image.open(tmp_path / "attention.png") as sheet:
        assert sheet.width > 3 * 128
        assert sheet.height > 3 * 128


def test_the_batch_does_not_change_a_picture(tmp_path):
    for batch in (1, 3):
        done = run(
            "personax.sample",
            "--prompt=a dog",
            "--num_images=3",
            f"--batch={batch}",
            "--steps=3",
            f"--out={tmp_path / str(batch)}",
        )
        assert done.returncode == 0, done.stderr
    for i in range(3):
        one, three = (
            np.asarray(Image.open(tmp_path / batch / f"000{i}.png")).astype(int)
            for batch in ("1", "3")
        )
        assert np.abs(one - three).max() <= 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--prompt=a <v7> dog"], "<v7>"), (["a", "dog"], "quote")],
)
def test_sample_refuses_in_one_sentence(arguments, sentence, tmp_path):
    done = run("personax.sample", *arguments, f"--out={tmp_path / 'out'}")
    check_refusal(done, sentence)
    assert not (tmp_path / "out").exists()


# In this process: to start jax for each would take a minute.
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--term=a dog"], "WEIGHT:PROMPT"),
        (["--term=face@1:a dog"], "Unknown model 'face'"),
        (["--base=/nowhere/at/all"], "/nowhere/at/all"),
        (["--concept=/nowhere", "--prompt=a dog"], "concept.json"),
        (["--size=30"], "multiple of 4"),
        (["--size=big"], "WIDTHxHEIGHT"),
        (["--spacing=karras"], "sigma"),
        (["--eta=0.5", "--solver=euler"], "eta applies to"),
        (["--prompt=a dog", "--attention=hat"], "the word 'hat' is not in 'a dog'"),
        (["--prompt=a dog", "--attention=dog", "--attention_side=5"], "one of 4, 8"),
        (["--prompt=a dog", "--f_stream=own_trajectory"], "with a frozen stream"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(
    arguments, sentence, tmp_path, monkeypatch, capsys
):
    call = make_call(sample, monkeypatch)
    assert sentence in refused(capsys, call, *arguments, f"--out={tmp_path / 'out'}")
    assert not (tmp_path / "out").exists()

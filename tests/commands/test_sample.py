"""The command that draws: several models, pictures to begin with, sheets, hints."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from personax import sample
from personax.loading import load_base
from personax.loading.write import write_controlnet
from personax.networks.controlnet import ControlNetConfig, copy_encoder
from tests.commands.test_commands import run
from tests.in_process import make_call
from tests.refusing import refused
from tests.small_models import write_concept, write_small


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """The folders "base", "art" and "face", a concept that names "art"; pictures."""
    root = tmp_path_factory.mktemp("models")
    write_small(root / "base", 0)
    write_small(root / "art", 1)
    write_concept(root / "face", root / "art")
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(photo).save(root / "photo.png")
    mask = np.zeros((32, 32), np.uint8)
    Image.fromarray(mask).save(root / "black.png")
    mask[:16] = 255
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray(mask[:16]).save(root / "half.png")
    base = load_base(root / "base")
    config = ControlNetConfig.of(base.spec.unet, (4, 8))
    unet = base.params["unet"]
    write_controlnet(
        root / "net", copy_encoder(jax.random.key(0), unet, (4, 8)), config
    )
    (root / "prompts.txt").write_text("a dog\n# not this\n\na cat at night\n")
    (root / "empty.txt").write_text("\n# nothing\n")
    return root


@pytest.fixture
def call(disk, monkeypatch):
    refused = make_call(sample, monkeypatch)
    return lambda *arguments: refused(
        f"--base={disk / 'base'}", "--size=16", *arguments
    )


def pictures(out):
    return [np.asarray(Image.open(path)) for path in sorted(out.glob("0*.png"))]


def draw(disk, *arguments):
    done = run("personax.sample", f"--base={disk / 'base'}", "--size=16", *arguments)
    assert done.returncode == 0, done.stderr


def test_a_sheet_of_prompts_and_weights_from_two_models(disk, tmp_path):
    draw(
        disk,
        f"--model=face={disk / 'face'}",
        f"--prompts={disk / 'prompts.txt'}",
        "--term=face@1>0:",
        "--grid=weights=0,100",
        "--num_images=2",
        "--solver=heun",
        "--steps=3",
        f"--out={tmp_path}",
    )
    record = json.loads((tmp_path / "samples.json").read_text())
    assert record["unconditional"] == "base"
    assert record["settings"]["Models"] == f"face={disk / 'face'}"
    drawn = pictures(tmp_path)
    assert len(record["samples"]) == len(drawn) == 2 * 2 * 2
    terms = [sample["terms"] for sample in record["samples"]]
    prompts = [first["prompt"] for first, _ in terms]
    assert prompts == ["a dog"] * 4 + ["a cat at night"] * 4
    assert [first["weight"] for first, _ in terms[:4]] == [0, 0, 100, 100]
    assert terms[0][1] == {"prompt": "", "weight": "1>0", "model": "face"}
    # With weight 0 a prompt has no effect, and both draw the same. A random network
    # reacts so little that the other weight is large; the unconditional term of another
    # model would hide the effect.
    np.testing.assert_array_equal(drawn[0], drawn[4])
    assert np.abs(drawn[2].astype(int) - drawn[6]).max() > 2
    with Image.open(tmp_path / "0002.png") as image:
        assert "CFG scale: 100" in image.text["parameters"]


def test_a_mask_repaints_a_picture_and_a_hint_is_shown(disk, tmp_path):
    draw(
        disk,
        "--term=2:a dog",
        f"--image={disk / 'photo.png'}",
        f"--mask={disk / 'mask.png'}",
        "--strength=0.5",
        "--num_images=1",
        "--steps=4",
        f"--control=base={disk / 'net'}",
        f"--hint=base={disk / 'photo.png'}",
        "--preprocess=canny",
        "--control_strength=base=2[0,0.5]",
        f"--out={tmp_path}",
    )
    settings = json.loads((tmp_path / "samples.json").read_text())["settings"]
    assert settings["Denoising strength"] == 0.5
    assert settings["Control strengths"] == "base=2[0,0.5]"
    assert len(pictures(tmp_path)) == 1
    edges = np.asarray(Image.open(tmp_path / "hint_base.png"))
    assert edges.shape == (16, 16, 3)
    assert set(np.unique(edges)) == {0, 255}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--prompts=/nowhere.txt"], "no file /nowhere.txt"),
        (["--prompts={disk}/empty.txt"], "no line with a prompt"),
        (["--grid=weights=a"], "not seeds or weights"),
        (["--grid=weights=1,2"], "needs --prompt or"),
        (["--prompts={disk}/prompts.txt", "--attention=dog"], "needs a single prompt"),
        (["--image=/nowhere.png"], "picture /nowhere.png does not exist"),
        (["--image={disk}/prompts.txt"], "cannot be read as a picture"),
        (["--strength=0.5"], "needs an --image"),
        (["--mask={disk}/mask.png"], "needs an --image"),
        (["--image={disk}/photo.png", "--strength=0.01"], "at least 0.04"),
        (["--image={disk}/photo.png", "--mask={disk}/half.png"], "32x16 pixels"),
        (["--image={disk}/photo.png", "--mask={disk}/black.png"], "nothing to repaint"),
        (["--model=face"], "NAME=VALUE"),
        (["--model=face={disk}/face", "--term=fase@1:"], "Unknown model 'fase'"),
        (["--model=face=/nowhere/at/all"], "/nowhere/at/all"),
        (["--term=1>x:a dog"], "WEIGHT:PROMPT"),
        (["--control=base=/nowhere/at/all"], "/nowhere/at/all"),
        (["--hint=base={disk}/photo.png"], "--control base=DIR"),
        (["--control_strength=base=1"], "--control base=DIR"),
        (["--control=base={disk}/net"], "--hint base=FILE"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_sentence(
    call, disk, tmp_path, capsys, arguments, sentence
):
    given = [each.format(disk=disk) for each in arguments]
    assert sentence in refused(capsys, call, *given, f"--out={tmp_path}/out")
    assert not (tmp_path / "out").exists()

"""The Python interface: load, bind concepts, sample."""

import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import personax
from tests.commands.test_commands import run
from tests.untrained import save_dog


@pytest.fixture(scope="module")
def concept(emoji, tmp_path_factory):
    return save_dog(tmp_path_factory.mktemp("concept") / "concept", emoji)


def test_importing_personax_imports_no_jax():
    code = "import sys, personax; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        personax.paint  # noqa: B018


def test_three_lines_draw_what_the_command_writes(concept, tmp_path):
    model = personax.load("emoji")
    model = model.with_concepts(concept)
    pictures = model.sample(
        "a photo of a <v1> dog",
        seed=3,
        steps=2,
        num_images=3,
        batch=2,
        negative="at night",
        terms=["1>0:on the beach"],
    )
    assert pictures.dtype == np.uint8
    assert pictures.shape == (3, 32, 32, 3)
    done = run(
        "personax.sample",
        f"--concept={concept}",
        "--prompt=a photo of a <v1> dog",
        "--term=1>0:on the beach",
        "--negative=at night",
        "--seed=3",
        "--steps=2",
        "--num_images=3",
        "--batch=2",
        f"--out={tmp_path}",
        xla=os.environ["XLA_FLAGS"],  # the devices and compiler options of this process
    )
    assert done.returncode == 0, done.stderr
    for index, pixels in enumerate(pictures):
        written = np.asarray(Image.open(tmp_path / f"{index:04d}.png"))
        np.testing.assert_array_equal(pixels, written)


def test_with_concepts_leaves_the_model_unchanged(concept):
    model = personax.load()
    model.with_concepts(concept)
    with pytest.raises(ValueError, match="Unknown concept <v1>"):
        model.sample("a <v1> dog")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"solver": "eular"}, "Unknown solver 'eular'; expected one of ddpm"),
        ({"eta": 0.5, "solver": "euler"}, "eta applies to the solver ddim"),
        ({"spacing": "wide"}, "Unknown spacing 'wide'"),
        ({"size": 30}, "multiple of 4"),
        ({"num_images": 0}, "num_images must be in .1, 1,000,000.; it is 0"),
        ({"terms": ["a dog"]}, "WEIGHT:PROMPT"),
    ],
)
def test_invalid_options_are_one_line_errors(options, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        personax.load().sample("a dog", **options)
    assert "\n" not in str(error.value)

"""Pictures that ControlNets follow: read, and added to the terms."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from personax.diffusion.denoiser import Prompt
from personax.diffusion.guidance import Term
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS
from personax.sampling.hints import HintOptions, add_hints, read_hints


def hints(file, **more):
    return read_hints(HintOptions({"edges": str(file)}, **more), ["edges"], (32, 32))


@pytest.fixture
def photo(tmp_path):
    """A grey field with a white square, as large as twice the drawing."""
    pixels = np.full((64, 64, 3), 51, np.uint8)
    pixels[16:48, 16:48] = 255
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_a_hint_is_the_picture_or_its_edges_at_the_drawing_s_size(photo):
    plain = hints(photo)["edges"]
    assert plain.pixels.shape == (1, 32, 32, 3)
    np.testing.assert_allclose(plain.pixels[0, 0, 0], 51 / 255, atol=1e-6)
    edges = hints(photo, preprocess="canny")["edges"]
    assert edges.pixels.shape == (1, 32, 32, 1)
    assert edges.picture.shape == (32, 32, 3)
    at = np.argwhere(np.asarray(edges.pixels[0, :, :, 0]) == 1)
    assert len(at) > 4 * 12
    assert at.min() >= 6  # around the square and nowhere else
    assert at.max() <= 25
    assert edges.pixels[0, 16, 16] == 0


def test_the_terms_of_a_model_get_its_hint_and_strength(photo):
    named = hints(photo, strengths={"edges": "2[0,0.5]"})
    grid = SOLVERS["heun"].grid(ScheduleConfig(), 2)
    prompt = Prompt(jnp.zeros((1, 4, 8)))
    terms = [Term(prompt, jnp.float32(1.0), name) for name in ("base", "edges")]
    base, edges = add_hints(terms, named, grid)
    assert base.hint is None
    assert base.strength is None
    assert edges.hint is named["edges"].pixels
    np.testing.assert_array_equal(edges.strength, [2, 0, 0])
    assert edges.weight == 1

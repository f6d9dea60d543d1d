"""PNG metadata: the settings that other programs restore from a picture."""

import hashlib
import re

import pytest

from personax.core import images
from personax.diffusion.solvers import SOLVERS
from personax.sampling.metadata import SAMPLERS, picture_metadata
from personax.sampling.options import SamplingOptions

# The rule of the web UI's parser: the last line holds at least three "name: value",
# separated by commas outside of quotes; the lines before it are the prompts.
PAIR = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
OPTIONS = SamplingOptions(steps=20, seed=7)


def restored(text):
    """What the web UI reads from a picture's text."""
    *lines, last = text.strip().split("\n")
    pairs = PAIR.findall(last)
    assert len(pairs) >= 3
    prompts = "\n".join(lines).partition("\nNegative prompt: ")
    return {"prompt": prompts[0], "negative": prompts[2], **dict(pairs)}


def test_the_web_ui_restores_prompt_steps_sampler_seed_and_size(emoji):
    settings = picture_metadata(
        emoji,
        OPTIONS,
        solver="dpmpp_2m",
        karras=True,
        guidance=7.5,
        size=(64, 32),
        Terms="3:a dog, at night",
    )
    text = images.parameters("a dog, at night", "blurry: very", **settings)
    found = restored(text)
    expected = {
        "prompt": "a dog, at night",
        "negative": "blurry: very",
        "Steps": "20",
        "Sampler": "DPM++ 2M Karras",
        "Schedule type": "Karras",
        "CFG scale": "7.5",
        "Seed": "7",
        "Size": "32x64",
        "Model": "emoji",
    }
    assert {name: found[name] for name in expected} == expected


def test_every_solver_has_a_name_in_the_web_ui():
    assert SAMPLERS.keys() >= SOLVERS.keys()


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_the_hash_of_a_files_model_is_the_web_uis(emoji, tmp_path, suffix):
    file = tmp_path / f"dream-v8{suffix}"
    file.write_bytes(b"weights")
    base = emoji.replace(name=str(file))
    settings = picture_metadata(base, OPTIONS, solver="ddim", guidance=3.0)
    assert settings["Model"] == "dream-v8"
    assert settings["Model hash"] == hashlib.sha256(b"weights").hexdigest()[:10]
    folder = picture_metadata(
        emoji.replace(name=str(tmp_path)), OPTIONS, solver="ddim", guidance=3.0
    )
    assert folder["Model"] == str(tmp_path)
    assert folder["Model hash"] == emoji.fingerprint[:10]

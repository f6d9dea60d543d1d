"""`python -m personax.edit` as a user runs it: what it writes, and how it refuses."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from personax.concepts.bind import from_base
from personax.core import images
from personax.data import emoji as world
from personax.diffusion.solvers import ddim
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import make_sampler
from tests.commands.test_commands import ROOT, run
from tests.untrained import save_dog

CAT, DOG = "a photo of a cat on the beach", "a photo of a dog on the beach"


@pytest.fixture(scope="module")
def concept(emoji, tmp_path_factory):
    """A concept as no training at all leaves it: another name for a rare word."""
    return save_dog(tmp_path_factory.mktemp("concept") / "concept", emoji)


def test_edits_are_written_beside_the_picture_that_sample_draws(
    emoji, concept, tmp_path
):
    done = run(
        "personax.edit",
        f"--concept={concept}",
        f"--prompt={CAT}",
        "--edit=a photo of a <v1> dog on the beach",
        "--edit=a photo of a red cat on the beach",
        "--reweight=red=2",
        "--cross_replace=default=0.8,dog=0.2:0.4",
        "--blend=cat,dog,red",
        "--subtract=beach",
        "--blend_threshold=0.3,0.4",
        "--num_images=3",
        "--batch=2",
        "--steps=2",
        "--seed=5",
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    assert "editing" in done.stderr  # progress
    record = json.loads((tmp_path / "edit.json").read_text())
    kinds = [stream.get("kind") for stream in record["streams"]]
    assert kinds == [None, "replace", "refine"]  # the concept's phrase is one word
    assert [stream["model"] for stream in record["streams"]] == [
        "base",
        "concept",
        "concept",
    ]
    assert record["pictures"][2] == {
        "source": "0002.png",
        "edits": ["0002_edit1.png", "0002_edit2.png"],
        "index": 2,
    }
    for picture in record["pictures"]:
        for name in (picture["source"], *picture["edits"]):
            with Image.open(tmp_path / name) as image:
                assert image.size == (32, 32)
    assert (tmp_path / "grid.png").is_file()

    model = from_base(emoji)
    sampler = make_sampler(model.denoiser.spec, emoji.params["vae"], ddim(), 2)
    terms = prompt_terms.to_terms({"base": model}, [TermSpec(CAT, 3.0)])
    sampled = sampler.draw({"base": model}, terms, jax.random.key(5), jnp.arange(3))
    for index, expected in enumerate(np.asarray(sampled).astype(int)):
        drawn = np.asarray(Image.open(tmp_path / f"{index:04d}.png")).astype(int)
        assert np.abs(drawn - expected).max() <= 2


def test_a_real_picture_is_inverted_and_edited(tmp_path):
    scene = world.Scene(("cat-face", "noto"), "on the beach")
    pixels = world.render(np.random.default_rng(1), world.load_sprites(), scene)
    # Not square, and another size: it is cut and resized.
    wide = np.pad(
        np.kron(pixels, np.ones((2, 2, 1), np.uint8)), ((0, 0), (9, 9), (0, 0))
    )
    images.write_png(tmp_path / "cat.png", wide)
    done = run(
        "personax.edit",
        f"--image={tmp_path / 'cat.png'}",
        f"--prompt={CAT}",
        f"--edit={DOG}",
        "--steps=5",
        f"--out={tmp_path / 'out'}",
        xla="",  # its inversion is a loop, which runs ten times as long with FAST
    )
    assert done.returncode == 0, done.stderr
    assert "inverting" in done.stderr
    record = json.loads((tmp_path / "out" / "edit.json").read_text())
    psnr = record["psnr"]
    assert list(psnr) == ["autoencoder", "DDIM inversion", "null-text inversion"]
    assert psnr["autoencoder"] > 22
    assert psnr["null-text inversion"] > psnr["DDIM inversion"]
    for what, ratio in psnr.items():
        assert f"{what}: {ratio:.2f} dB" in done.stdout
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert {"0000.png", "0000_edit1.png", "autoencoder.png", "grid.png"} <= names


# One process for all refusals: to start jax for each would take minutes.
_REFUSE = """
import json, sys
from absl import flags
from personax import edit
edit.define_flags()
for arguments in json.loads(sys.argv[1]):
    for name in list(flags.FLAGS):
        flags.FLAGS[name].unparse()
    rest = flags.FLAGS(["edit", *arguments])
    try:
        edit.main(rest)
        print("personax: not refused", file=sys.stderr)
    except SystemExit as done:
        assert done.code == 2
"""

REFUSALS = [
    ([], "Nothing to edit"),
    ([f"--edit={DOG}", "--kind=replace", "--edit=a dog"], "use refine instead"),
    ([f"--edit={DOG}", "--reweight=lion=2"], "'lion' of --reweight is not in"),
    ([f"--edit={DOG}", "--reweight=dog"], "WORD=FACTOR"),
    ([f"--edit={DOG}", "--reweight=dog=much"], "WORD=FACTOR"),
    ([f"--edit={DOG}", "--reweight=dog=nan"], "WORD=FACTOR"),
    ([f"--edit={DOG}", "--cross_replace=1.5"], "window"),
    ([f"--edit={DOG}", "--cross_replace=0.8,0.2"], "window"),
    ([f"--edit={DOG}", "--cross_replace=default=0.8,lion=0.2"], "'lion'"),
    ([f"--edit={DOG}", "--cross_replace=dog=0.5,0.7"], "WORD=SHARE"),
    ([f"--edit={DOG}", "--self_replace=often"], "--self_replace: 'often'"),
    ([f"--edit={DOG}", "--self_limit=2"], "self_limit must be in [0, 1]"),
    ([f"--edit={DOG}", "--blend=lion"], "'lion' of --blend"),
    ([f"--edit={DOG}", "--blend=cat,dog", "--blend_threshold=3"], "[0, 1]"),
    ([f"--edit={DOG}", "--subtract=beach"], "--blend"),
    (["--edit=a <v7> on the beach"], "<v7>"),
    ([f"--edit={DOG}", "--image=/nowhere.png"], "/nowhere.png"),
    ([f"--edit={DOG}", "--base=/nowhere/at/all"], "/nowhere/at/all"),
    ([f"--edit={DOG}", "on", "the", "grass"], "quote"),
]


def test_bad_input_is_refused_in_one_sentence(tmp_path):
    out = tmp_path / "out"
    given = [[f"--prompt={CAT}", f"--out={out}", *extra] for extra, _ in REFUSALS]
    done = subprocess.run(
        [sys.executable, "-c", _REFUSE, json.dumps(given)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("personax:")]
    assert len(lines) == len(REFUSALS), done.stderr
    for line, (extra, sentence) in zip(lines, REFUSALS, strict=True):
        assert sentence in line, extra
    assert not out.exists()

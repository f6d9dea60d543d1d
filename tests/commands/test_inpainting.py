"""Inpainting bases, whose UNet reads a mask as well: drawn, trained, refused."""

import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image

import personax
from configs import emoji_custom_diffusion
from configs.evaluate import common
from personax import edit, sample, search
from personax.core.files import read_journal
from personax.evaluation.config import read_config
from personax.evaluation.runner import open_runner
from personax.loading import load_base
from personax.loading.write import write_controlnet
from personax.networks.controlnet import ControlNetConfig, copy_encoder
from personax.training.setup import prepare
from personax.training.train import train
from tests.commands.test_commands import run
from tests.in_process import make_call
from tests.refusing import refused
from tests.small_models import write_inpainting, write_smaller


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """An inpainting base, a text-to-image base, a ControlNet of that, and pictures."""
    root = tmp_path_factory.mktemp("models")
    write_inpainting(root / "nine", smallest=True)
    plain = load_base(write_smaller(root / "four", 1, smallest=True))
    config = ControlNetConfig.of(plain.spec.unet, (4,))
    net = copy_encoder(jax.random.key(0), plain.params["unet"], (4,))
    write_controlnet(root / "net", net, config)
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(photo).save(root / "photo.png")
    mask = np.zeros((16, 16), np.uint8)
    mask[:8] = 255
    Image.fromarray(mask).save(root / "mask.png")
    Image.fromarray(0 * mask).save(root / "black.png")
    return root


PROMPT = "a dog"


def test_the_command_draws_and_a_controlnet_reads_the_latents(disk, tmp_path):
    """The ControlNet is one of an ordinary base, of four input channels."""
    done = run(
        "personax.sample",
        f"--base={disk / 'nine'}",
        f"--prompt={PROMPT}",
        f"--image={disk / 'photo.png'}",
        f"--mask={disk / 'mask.png'}",
        f"--control=base={disk / 'net'}",
        f"--hint=base={disk / 'photo.png'}",
        "--steps=2",
        "--num_images=1",
        f"--out={tmp_path}",
    )
    assert done.returncode == 0, done.stderr
    settings = json.loads((tmp_path / "samples.json").read_text())["settings"]
    assert settings["Denoising strength"] == 1.0
    assert settings["Mask"] == str(disk / "mask.png")
    assert (tmp_path / "0000.png").exists()


def test_python_takes_files_and_arrays(disk):
    model = personax.load(disk / "nine")
    image, mask = (
        np.asarray(Image.open(disk / f"{name}.png").convert("RGB"))
        for name in ("photo", "mask")
    )
    draw = functools.partial(model.sample, PROMPT, steps=2, num_images=2)
    files = draw(image=disk / "photo.png", mask=disk / "mask.png")
    np.testing.assert_array_equal(draw(image=image, mask=mask), files)
    assert (draw(image=255 - image, mask=mask) != files).any()
    with pytest.raises(ValueError, match="needs a picture and a mask"):
        draw()
    with pytest.raises(ValueError, match="uint8 array"):
        draw(image=image[..., 0], mask=mask)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            [],
            "nine is an inpainting model: it needs a picture and a mask, --image FILE",
        ),
        (["--image={disk}/photo.png"], "needs a picture and a mask"),
        (
            ["--image={disk}/photo.png", "--mask={disk}/black.png"],
            "nothing to repaint",
        ),
        (
            ["--model=other={disk}/four", "--term=other@1:"],
            "'other' is a text-to-image model and the base an inpainting model",
        ),
    ],
)
def test_sampling_is_refused_in_one_sentence(
    disk, tmp_path, monkeypatch, capsys, arguments, sentence
):
    given = [each.format(disk=disk) for each in arguments]
    call, out = make_call(sample, monkeypatch), tmp_path / "out"
    base = f"--base={disk / 'nine'}"
    assert sentence in refused(capsys, call, base, *given, f"--out={out}")
    assert not out.exists()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (edit, ["--prompt=a cat", "--edit=a dog"]),
        (search, ["--axis=0..1:a dog"]),
    ],
)
def test_commands_without_a_mask_are_refused_in_one_sentence(
    disk, tmp_path, monkeypatch, capsys, module, arguments
):
    call, out = make_call(module, monkeypatch), tmp_path / "out"
    arguments = [f"--base={disk / 'nine'}", *arguments, f"--out={out}"]
    assert "needs a text-to-image base" in refused(capsys, call, *arguments)
    assert not out.exists()


def test_an_evaluation_is_refused(disk, tmp_path):
    config = common.get_config()
    config.base = str(disk / "nine")
    config.judges.captions = "scenes"
    config.prompts.live = ("a photo of a {}",)
    config.prompts.object = config.prompts.live
    with pytest.raises(ValueError, match="the evaluation has none"):
        open_runner(read_config(config), tmp_path / "out")


@pytest.fixture
def config(disk, tmp_path):
    config = emoji_custom_diffusion.get_config()
    config.base, config.batch, config.steps = str(disk / "nine"), 4, 2
    config.prior.source, config.prior.count = "generated", 4
    config.prior.steps, config.prior.cache = 1, str(tmp_path / "priors")
    config.preview.prompts, config.preview.steps = ("a photo of a {}",), 1
    config.preview.images, config.size = 1, 16
    config.validation.every, config.validation.count = 2, 8
    return config


def test_training_with_a_prior_a_preview_and_a_validation(config, disk, tmp_path):
    run = tmp_path / "run"
    assert train(config, run)
    lines = [x for x in read_journal(run / "metrics.jsonl") if x["step"] == 2]
    record = {name: value for line in lines for name, value in line.items()}
    assert np.isfinite(record["loss"])
    assert np.isfinite(record["validation/loss"])
    assert (run / "grid.png").exists()
    assert len(list((tmp_path / "priors").glob("*/*.png"))) == 4
    model = personax.load(disk / "nine").with_concepts(run / "concept")
    pictures = {"image": disk / "photo.png", "mask": disk / "mask.png"}
    drawn = model.sample("a <v1> dog", steps=1, num_images=1, **pictures)
    assert drawn.shape == (1, 8, 8, 3)


def test_a_cache_of_latents_is_refused(config):
    config.prior.source, config.stream.source = "", "cache:/nowhere"
    config.concept.class_word = "dog"
    with pytest.raises(ValueError, match="masks need pictures, and cache:/nowhere"):
        prepare(config)

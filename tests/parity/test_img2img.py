"""Pictures to begin with: from the same noise diffusers' pipelines draw the same."""

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from personax.concepts.bind import from_base
from personax.core import images
from personax.diffusion.schedule import ScheduleConfig
from personax.diffusion.solvers import SOLVERS
from personax.diffusion.solvers.grid import rows_of
from personax.loading import embedded, load_base
from personax.sampling import img2img, prompt_terms, sampler
from personax.sampling.prompt_terms import TermSpec
from tests.small_configs import BETAS
from tests.small_models import write_inpainting, write_small

TOLERANCE = 2  # of 255, for every pixel
PROMPT, GUIDANCE, STEPS, STRENGTH = "a dog in the desert", 3.0, 10, 0.6
COUNT = 2


@pytest.fixture(scope="module")
def photo():
    folder = embedded("subjects") / "penguin"
    return images.read_image(sorted(folder.glob("*.png"))[0])


@pytest.fixture
def same_noise(monkeypatch):
    """A function after which diffusers draws our noise of that shape (h, w, c).

    Of a posterior it then takes the mean, as we do.
    """

    def replace(shape):
        noise = sampler.start(jax.random.key(0), jnp.arange(COUNT), shape)
        noise = torch.tensor(np.asarray(noise).transpose(0, 3, 1, 2))
        for name in ("img2img", "inpaint"):
            file = (
                f"diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_{name}"
            )
            monkeypatch.setattr(f"{file}.randn_tensor", lambda *_, **__: noise)
            monkeypatch.setattr(
                f"{file}.retrieve_latents",
                lambda output, *_, **__: output.latent_dist.mode(),
            )

    return replace


def drawn(base, picture, name="ddim"):
    """Latents of our drawing, with the pipelines' settings."""
    model = from_base(base)
    solver = SOLVERS[name]
    grid = solver.grid(base.spec.schedule, STEPS)
    if picture.noised:
        grid = img2img.tail(grid, STEPS, STRENGTH)
    terms = prompt_terms.to_terms({"base": model}, [TermSpec(PROMPT, GUIDANCE)])
    fixed = solver, picture.z0.shape[1:], {"base": model.denoiser}, terms, grid
    key, indices = jax.random.key(0), jnp.arange(COUNT)
    return sampler.draw_latents(*fixed, key, indices, picture).latents


def theirs(pipe, photo, **more):
    pipe.set_progress_bar_config(disable=True)
    return pipe(
        [PROMPT] * COUNT,
        image=[Image.fromarray(photo)] * COUNT,
        guidance_scale=GUIDANCE,
        num_inference_steps=STEPS,
        **more,
    ).images


def test_a_noised_picture_becomes_the_same(emoji, same_noise):
    same_noise((8, 8, 8))
    photo = images.read_image(min((embedded("subjects") / "penguin").glob("*.png")))
    vae = emoji.params["vae"]
    picture = img2img.encode(vae, emoji.spec, images.fit(photo, 32))
    ours = sampler.decode_latents(emoji.spec, vae, drawn(emoji, picture))
    pipe = StableDiffusionImg2ImgPipeline.from_pretrained(
        embedded("pipeline"), dtype=torch.float32
    )
    expected = theirs(pipe, photo, strength=STRENGTH, output_type="np")
    expected = np.round(expected * 255).astype(int)
    ours = np.asarray(ours).astype(int)
    assert np.abs(ours - expected).max() <= TOLERANCE
    assert np.abs(ours[0] - photo).max() > 50  # another picture, not the given one


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(a base of four channels, which diffusers' repainting is for, its folder)."""
    folder = write_small(tmp_path_factory.mktemp("small") / "small")
    return load_base(folder), folder


def inpainting(folder, scheduler="DDIMScheduler"):
    pipe = StableDiffusionInpaintPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=diffusers.UNet2DConditionModel.from_pretrained(
            folder / "unet", sample_size=64
        ),
        scheduler=getattr(diffusers, scheduler).from_config(
            diffusers.DDIMScheduler.load_config(folder / "scheduler")
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.tokenizer.model_max_length = 32
    return pipe


def repainted(pipe, photo, mask, strength):
    """The pipeline's latents, in our layout."""
    latents = theirs(
        pipe,
        photo,
        mask_image=[Image.fromarray(mask)] * COUNT,
        strength=strength,
        height=16,
        width=16,
        output_type="latent",
    )
    return latents.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("strength", [STRENGTH, 1.0])
def test_a_mask_repaints_the_same(small, same_noise, strength):
    base, folder = small
    same_noise((8, 8, 4))
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (16, 16, 3), np.uint8)
    # Cells of 2x2 pixels that are wholly black or white.
    mask = np.triu(np.full((8, 8), 255, np.uint8)).repeat(2, 0).repeat(2, 1)
    repaint = img2img.to_latents(mask / np.float32(255), 2)
    picture = img2img.encode(
        base.params["vae"],
        base.spec,
        images.fit(photo, 16),
        repaint,
        noised=strength < 1,
    )
    ours = np.asarray(drawn(base, picture))
    expected = repainted(inpainting(folder), photo, mask, strength)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
    # What is kept is what the autoencoder makes of the picture, to the bit.
    z0 = np.broadcast_to(picture.z0, ours.shape)
    kept = np.broadcast_to(repaint == 0, ours.shape)
    np.testing.assert_array_equal(ours[kept], z0[kept])
    assert np.abs(ours - z0)[~kept].min() > 0


@pytest.fixture(scope="module")
def nine(tmp_path_factory):
    """(an inpainting base, which has 9 input channels, its folder)."""
    folder = write_inpainting(tmp_path_factory.mktemp("nine") / "nine")
    return load_base(folder), folder


@pytest.mark.parametrize(
    ("name", "scheduler", "strength"),
    [
        ("ddim", "DDIMScheduler", STRENGTH),
        ("ddim", "DDIMScheduler", 1.0),
        ("euler", "EulerDiscreteScheduler", 1.0),  # which scales the UNet's input
        ("dpmpp_2m", "DPMSolverMultistepScheduler", STRENGTH),
    ],
)
def test_an_inpainting_base_draws_the_same(nine, same_noise, name, scheduler, strength):
    """Latents within 1e-4 of their largest, for a mask whose edges cut cells."""
    base, folder = nine
    same_noise((8, 8, 4))
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (16, 16, 3), np.uint8)
    mask = rng.integers(0, 256, (16, 16), np.uint8)
    picture = img2img.encode_masked(
        base.params["vae"],
        base.spec,
        images.fit(photo, 16),
        mask / np.float32(255),
        noised=strength < 1,
    )
    ours = np.asarray(drawn(base, picture, name))
    expected = repainted(inpainting(folder, scheduler), photo, mask, strength)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())
    # The mask and the masked picture both matter, ten times more than the tolerance.
    without = picture.replace(masked=jnp.zeros_like(picture.z0))
    whole = picture.replace(repaint=jnp.ones_like(picture.repaint))
    for other in (without, whole):
        moved = np.abs(np.asarray(drawn(base, other, name)) - ours).max()
        assert moved > 1e-3 * np.abs(expected).max()


SD15 = {**BETAS, "steps_offset": 1}
CLASSES = {
    "ddim": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("name", CLASSES)
def test_a_solver_begins_in_the_middle_as_diffusers_does(name):
    """The whole trajectory, as StableDiffusionImg2ImgPipeline runs its scheduler.

    Not PLMS and LMS: PNDMScheduler, begun there, takes its warm-up for later steps, and
    LMSDiscreteScheduler the weights of four predictions with the first alone.
    """
    published, own = CLASSES[name]
    config = {"_class_name": published, **SD15, **own}
    scheduler = getattr(diffusers, published).from_config(config)
    scheduler.set_timesteps(10)
    first = 4 * scheduler.order
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    times = scheduler.timesteps[first:]
    rng = np.random.default_rng(0)
    z0, noise = rng.standard_normal((2, 2, 4, 4, 2), np.float32)
    x = scheduler.add_noise(torch.tensor(z0), torch.tensor(noise), times[:1])
    for t in times:
        seen = scheduler.scale_model_input(x, t)
        x = scheduler.step(_network(seen, t, torch.sin), t, x, return_dict=False)[0]

    solver = SOLVERS[name]
    grid = solver.grid(ScheduleConfig.from_json(config), 10).tail(4)
    ours = grid.signal[0] * z0 + grid.noise[0] * noise
    state = solver.init(ours)
    for i in range(len(grid.t)):
        row = rows_of(grid.replace(start=1.0), i)
        eps = _network(ours, row.t, jnp.sin)
        ours, state = solver.step(ours, state, eps, row, None)
    np.testing.assert_allclose(ours, x.numpy(), atol=1e-4)


def _network(x, t, sin):
    return x - 0.3 * sin(1.3 * x + 0.003 * t)

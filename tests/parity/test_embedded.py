"""The embedded base: from the same noise diffusers draws the same picture."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from personax.concepts.bind import from_base
from personax.diffusion.guidance import guide
from personax.diffusion.sampling import sample
from personax.diffusion.solvers import SOLVERS
from personax.loading import embedded
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import decode_latents

TOLERANCE = 2  # of 255, for every pixel
PROMPT, GUIDANCE, STEPS = "a dog wearing a top hat on the beach", 3.0, 25


@pytest.fixture(scope="module")
def pipeline():
    pipe = StableDiffusionPipeline.from_pretrained(
        embedded("pipeline"), dtype=torch.float32
    )
    pipe.set_progress_bar_config(disable=True)
    assert isinstance(pipe.scheduler, DDIMScheduler)
    return pipe


@pytest.mark.parametrize("negative", ["", "at night"])
def test_the_same_noise_gives_the_same_picture(pipeline, emoji, negative):
    noise = np.random.default_rng(0).standard_normal((2, 8, 8, 8), np.float32)
    theirs = pipeline(
        [PROMPT] * 2,
        negative_prompt=[negative] * 2,
        latents=torch.tensor(noise.transpose(0, 3, 1, 2)),
        guidance_scale=GUIDANCE,
        num_inference_steps=STEPS,
        height=32,
        width=32,
        output_type="np",
    ).images
    model = from_base(emoji)
    spec, solver = model.denoiser.spec, SOLVERS["ddim"]
    grid = solver.grid(spec.schedule, STEPS)
    terms = prompt_terms.to_terms(
        {"base": model}, [TermSpec(PROMPT, GUIDANCE)], negative=negative
    )

    @jax.jit
    def draw(denoiser, terms, x):
        return sample(guide({"base": denoiser}, terms), solver, grid, x)

    latents = draw(model.denoiser, terms, jnp.asarray(noise))
    ours = decode_latents(spec, emoji.params["vae"], latents)
    theirs = np.round(theirs * 255).astype(int)
    assert np.abs(np.asarray(ours).astype(int) - theirs).max() <= TOLERANCE
    assert theirs.std() > 20  # a picture, not a grey field

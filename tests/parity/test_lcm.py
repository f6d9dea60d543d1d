"""A latent consistency model draws what diffusers' StableDiffusionPipeline draws."""

import json

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTextModel, CLIPTokenizer

from personax.concepts.bind import from_base
from personax.diffusion.sampling import image_keys
from personax.diffusion.solvers import SOLVERS
from personax.diffusion.solvers.solver import draw
from personax.loading import load_base
from personax.networks.unet import guidance_embedding
from personax.sampling import prompt_terms, sampler
from personax.sampling.grammar import parse_term
from personax.sampling.prompt_terms import TermSpec
from tests.small_models import write_small

PROMPT, STEPS, COUNT, SHAPE = "a dog in the desert", 4, 2, (8, 8, 4)
WIDTH = 32  # of the guidance's embedding


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small base whose UNet has an input for the guidance weight."""
    folder = write_small(tmp_path_factory.mktemp("small") / "lcm")
    plain = diffusers.UNet2DConditionModel.from_pretrained(folder / "unet")
    config = {k: v for k, v in plain.config.items() if not k.startswith("_")}
    config |= {"time_cond_proj_dim": WIDTH, "sample_size": 8}
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(**config)
    missing, _ = unet.load_state_dict(plain.state_dict(), strict=False)
    assert missing == ["time_embedding.cond_proj.weight"]
    unet.save_pretrained(folder / "unet")
    scheduler = {"_class_name": "LCMScheduler", "steps_offset": 1}
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(scheduler))
    return folder


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


def drawn(base, guidance):
    model = from_base(base)
    solver = SOLVERS[base.spec.schedule.solver]
    grid = solver.grid(base.spec.schedule, STEPS)
    terms = prompt_terms.to_terms({"base": model}, [TermSpec(PROMPT, guidance)])
    key, indices = jax.random.key(0), jnp.arange(COUNT)
    fixed = solver, SHAPE, {"base": model.denoiser}, terms, grid, key, indices
    return np.asarray(sampler.draw_latents(*fixed).latents)


def our_noise():
    """(the start, what each step draws), in diffusers' axes."""
    key, indices = jax.random.key(0), jnp.arange(COUNT)
    keys = image_keys(jax.random.fold_in(key, sampler._STEPS), indices)
    noises = [sampler.start(key, indices, SHAPE)]
    for i in range(STEPS):
        own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
        noises.append(draw(own, jnp.zeros((COUNT, *SHAPE))))
    return [torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)) for x in noises]


def theirs(folder, guidance, monkeypatch):
    pipe = StableDiffusionPipeline(
        vae=diffusers.AutoencoderKL.from_pretrained(folder / "vae"),
        text_encoder=CLIPTextModel.from_pretrained(folder / "text_encoder"),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        unet=diffusers.UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=diffusers.LCMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.tokenizer.model_max_length = 32
    pipe.set_progress_bar_config(disable=True)
    first, *rest = our_noise()
    fresh = iter(rest)
    name = "diffusers.schedulers.scheduling_lcm.randn_tensor"
    monkeypatch.setattr(name, lambda *_, **__: next(fresh))
    latents = pipe(
        [PROMPT] * COUNT,
        latents=first,
        guidance_scale=guidance,
        num_inference_steps=STEPS,
        height=SHAPE[0] * pipe.vae_scale_factor,
        width=SHAPE[1] * pipe.vae_scale_factor,
        output_type="latent",
    ).images
    return latents.numpy().transpose(0, 2, 3, 1)


@pytest.mark.parametrize("guidance", [8.0, 1.0])
def test_a_distilled_unet_draws_the_same(folder, base, guidance, monkeypatch):
    """Tolerance: 1e-4 of the largest latent."""
    expected = theirs(folder, guidance, monkeypatch)
    ours = drawn(base, guidance)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * np.abs(expected).max())


def test_the_weight_of_guidance_is_an_input(base):
    assert np.abs(drawn(base, 8.0) - drawn(base, 2.0)).max() > 1e-3


@pytest.mark.parametrize("width", [32, 33])
def test_the_embedding_is_the_pipeline_s(width):
    weights = np.array([1.0, 2.5, 8.0], np.float32)
    embed = StableDiffusionPipeline.get_guidance_scale_embedding
    expected = embed(None, torch.tensor(weights - 1), embedding_dim=width)
    ours = guidance_embedding(jnp.asarray(weights), width)
    # Angles of up to 7000 radians in float32.
    np.testing.assert_allclose(ours, expected.numpy(), atol=2e-3)


@pytest.mark.parametrize(
    ("terms", "options", "message"),
    [
        (["8:a dog", "2:in the snow"], {}, "no further term"),
        (["8:a dog"], {"negative": "at night"}, "no negative prompt"),
        (["8>1:a dog"], {}, "one weight for all steps"),
    ],
)
def test_what_classifier_free_guidance_alone_has_is_refused(
    base, terms, options, message
):
    grid = SOLVERS["lcm"].grid(base.spec.schedule, STEPS)
    term_specs = [parse_term(text) for text in terms]
    with pytest.raises(ValueError, match=message):
        prompt_terms.to_terms(
            {"base": from_base(base)}, term_specs, grid=grid, **options
        )

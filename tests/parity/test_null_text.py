"""The folded null text against torch diffusers: float32, the stated tolerances."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel

from personax.diffusion.denoiser import encode, network
from personax.diffusion.sampling import start_noise
from personax.loading.write import torch_state
from personax.methods import bind, init, prepare
from personax.methods.concept_centric import concept_centric
from personax.methods.parts.folded_null_text import NAME, unfold
from personax.networks.unet import cross_sites, unet
from tests.fast import USUAL
from tests.methods.test_laws import small_denoiser
from tests.small_configs import BETAS

VECTORS = 1e-5  # max abs error of the vectors, which are of about 0.1
EXPORTED = 1e-5  # of the exported UNet's prediction, which is of about 1
LATENTS, STEPS = 2, 3
NULL = jnp.array([[62] + [63] * 11])


@pytest.fixture(scope="module")
def base():
    return small_denoiser()


@pytest.fixture(scope="module")
def model(base):
    """The base's UNet in torch."""
    config = base.spec.unet
    names = ("block_out_channels", "down_block_types", "up_block_types")
    options = {name: getattr(config, name) for name in names}
    made = UNet2DConditionModel(
        **options,
        layers_per_block=1,
        attention_head_dim=config.attention_head_dim,
        cross_attention_dim=config.cross_attention_dim,
        norm_num_groups=config.norm_num_groups,
        sample_size=8,
    ).eval()
    load(made, base.params["unet"])
    return made


def load(made, params):
    state = torch_state(params)
    made.load_state_dict({name: torch.from_numpy(x) for name, x in state.items()})


@contextlib.contextmanager
def outputs_of(made):
    """{site: [what its cross-attention put out, call by call]}."""
    found, hooks = {}, []
    for name, module in made.named_modules():
        if name.endswith("attn2"):
            seen = found.setdefault(name.replace(".", "/"), [])
            hooks.append(
                module.register_forward_hook(
                    lambda m, i, out, seen=seen: seen.append(out)
                )
            )
    yield found
    for hook in hooks:
        hook.remove()


def test_attn_mean_is_the_mean_of_what_torch_puts_out_while_it_draws(base, model):
    method = concept_centric(latents=LATENTS, steps=STEPS)
    vectors = prepare(method, base, NULL).prepared[NAME]
    text = torch.from_numpy(np.array(encode(base, NULL).text)).expand(LATENTS, -1, -1)
    noise = start_noise(jax.random.key(0), jnp.arange(LATENTS), (8, 8, 4))
    x = torch.from_numpy(np.array(noise)).permute(0, 3, 1, 2)
    solver = DDIMScheduler(
        **BETAS,
        clip_sample=False,
        set_alpha_to_one=base.spec.schedule.set_alpha_to_one,
        steps_offset=base.spec.schedule.steps_offset,
    )
    solver.set_timesteps(STEPS)
    with torch.no_grad(), outputs_of(model) as found:
        for t in solver.timesteps:
            eps = model(x, t, encoder_hidden_states=text).sample
            x = solver.step(eps, t, x).prev_sample
    assert set(found) == set(vectors) == set(cross_sites(base.params["unet"]))
    for site, outputs in found.items():
        want = torch.stack(outputs).mean(dim=(0, 1, 2)).numpy()
        np.testing.assert_allclose(vectors[site], want, atol=VECTORS, err_msg=site)


@pytest.mark.parametrize("norm", ["attn_mean", "token_mean"])
def test_exported_it_is_an_ordinary_unet_that_ignores_its_text(base, model, norm):
    method = concept_centric(null_norm=norm, latents=1, steps=1)
    ready = prepare(method, base, NULL)
    theta = init(method, jax.random.key(0), base.params, [])
    theta = jax.tree.map(lambda x: 1.1 * x, theta)  # as if it had been trained
    folded = bind(method, ready, theta)
    whole = unfold(folded.params, base.params)["unet"]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 8, 8, 4), np.float32)
    text = rng.standard_normal((2, 12, 24), np.float32)
    t = np.array([3.0, 721.0], np.float32)
    prompt = encode(base, jnp.tile(NULL, (2, 1)))
    x, t = jnp.asarray(x), jnp.asarray(t)
    jit = jax.jit(compiler_options=USUAL)  # as users compile it
    ours = jit(lambda denoiser: network(denoiser, x, t, prompt)[0])(folded)
    opened = jit(
        lambda params: unet(params, base.spec.unet, x, t, jnp.asarray(text))[0]
    )(whole)
    np.testing.assert_array_equal(opened, ours)
    load(model, whole)
    with torch.no_grad():
        theirs = model(
            torch.from_numpy(np.array(x)).permute(0, 3, 1, 2),
            torch.from_numpy(np.array(t)),
            encoder_hidden_states=torch.from_numpy(text),
        ).sample
    load(model, base.params["unet"])
    np.testing.assert_allclose(theirs.permute(0, 2, 3, 1), ours, atol=EXPORTED)

"""The autoencoder against diffusers' AutoencoderKL, same random weights, float32."""

import dataclasses
import functools
import json
from pathlib import Path

import diffusers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import personax
from personax.core.tree import count, flat
from personax.networks import vae
from personax.networks.compute import Compute
from personax.networks.vae import VAEConfig
from tests.parity.from_torch import from_torch

TOLERANCE = 1e-4  # max abs error

encode, decode, decode_sliced, decode_tiled = (
    jax.jit(function, static_argnames=("config", "compute"))
    for function in (vae.encode, vae.decode, vae.decode_sliced, vae.decode_tiled)
)

CONFIGS = {
    "like_sd": {"block_out_channels": (16, 32, 32), "layers_per_block": 2},
    "no_attention": {"mid_block_add_attention": False, "latent_channels": 8},
    "one_down": {"block_out_channels": (16, 32), "layers_per_block": 2},
    "three_down": {"block_out_channels": (8, 16, 16, 24), "norm_num_groups": 4},
    "sixteen_channels_shifted": {
        "latent_channels": 16,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
        "use_quant_conv": False,
        "use_post_quant_conv": False,
    },
    "grey_no_post_quant": {
        "in_channels": 1,
        "out_channels": 1,
        "use_post_quant_conv": False,
        "norm_num_groups": 2,
    },
    "no_down": {
        "block_out_channels": (24,),
        "norm_num_groups": 3,
        "latent_channels": 2,
    },
}


@functools.cache
def pair(name):
    """(torch module, config, our parameters) of the config `name`."""
    options = {
        "block_out_channels": (16, 24, 32),
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "sample_size": 32,
    }
    options |= CONFIGS[name]
    blocks = len(options["block_out_channels"])
    torch.manual_seed(0)
    theirs = diffusers.AutoencoderKL(
        **options,
        down_block_types=["DownEncoderBlock2D"] * blocks,
        up_block_types=["UpDecoderBlock2D"] * blocks,
    ).eval()
    for parameter in theirs.parameters():  # norms start as the identity
        parameter.data += 0.02 * torch.randn_like(parameter)
    config = VAEConfig.from_json(json.loads(theirs.to_json_string()))
    return theirs, config, from_torch(theirs, template(config))


def template(config):
    return jax.eval_shape(lambda key: vae.init_vae(key, config), jax.random.key(0))


def normal(*shape):
    return np.random.default_rng(0).standard_normal(shape, np.float32)


def nchw(x):
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1)))


def nhwc(x):
    return np.moveaxis(x.numpy(), 1, -1)


def assert_close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", CONFIGS)
def test_encode_is_diffusers(name):
    theirs, config, params = pair(name)
    images = np.clip(normal(2, 24, 16, config.in_channels), -1, 1)
    with torch.no_grad():
        expected = theirs.encode(nchw(images)).latent_dist
    ours = encode(params, config, images)
    assert_close(ours.mean, nhwc(expected.mean))
    assert_close(ours.logvar, nhwc(expected.logvar))


@pytest.mark.parametrize("name", CONFIGS)
def test_decode_of_scaled_latents_is_diffusers(name):
    theirs, config, params = pair(name)
    latents = normal(2, 8, 6, config.latent_channels)
    unscaled = latents / config.scaling_factor + (config.shift_factor or 0)
    with torch.no_grad():
        expected = theirs.decode(nchw(unscaled)).sample
    assert_close(decode(params, config, latents), nhwc(expected))


def test_encode_clips_the_log_variance():
    _, config, params = pair("no_attention")
    bias = jnp.where(jnp.arange(16) % 2, 100.0, -100.0)
    params = {**params, "quant_conv": {**params["quant_conv"], "bias": bias}}
    logvar = encode(params, config, np.zeros((1, 8, 8, 3), np.float32)).logvar
    assert (logvar.min(), logvar.max()) == (-30, 20)


# Tiles of 8 latent cells, 6 apart, are cut at the edge to 4, to 7 and 1, to 2 or 3.
@pytest.mark.parametrize("size", [(13, 16), (8, 9), (8, 6)])
@pytest.mark.parametrize("name", ["like_sd", "sixteen_channels_shifted"])
def test_tiled_decode_is_diffusers(name, size):
    theirs, config, params = pair(name)
    latents = normal(2, *size, config.latent_channels)
    unscaled = latents / config.scaling_factor + (config.shift_factor or 0)
    theirs.enable_tiling()
    with torch.no_grad():
        expected = theirs.decode(nchw(unscaled)).sample
    theirs.disable_tiling()
    ours = decode_tiled(params, config, latents)
    assert_close(ours, nhwc(expected))


def test_tiled_decode_refuses_tiles_that_do_not_overlap_by_a_quarter():
    _, config, params = pair("no_attention")
    config = dataclasses.replace(config, sample_size=24)
    with pytest.raises(ValueError, match="multiple of 4"):
        decode_tiled(params, config, normal(1, 16, 16, 8))


def test_sliced_decode_equals_decode():
    _, config, params = pair("like_sd")
    latents = normal(3, 4, 4, 4)
    expected = decode(params, config, latents)
    assert_close(decode_sliced(params, config, latents), expected)


def test_draws_have_the_posterior_moments():
    posterior = vae.Posterior(
        jnp.full((1, 64, 64, 4), 3.0), jnp.full((1, 64, 64, 4), -2.0)
    )
    z = vae.draw(posterior, jax.random.split(jax.random.key(0), 1))
    assert abs(z.mean() - 3) < 0.02  # 16384 numbers of deviation 0.37
    assert abs(z.std() - np.exp(-1)) < 0.02


def test_a_draw_depends_on_its_own_key_only():
    posterior = vae.Posterior(jnp.zeros((3, 4, 4, 2)), jnp.zeros((3, 4, 4, 2)))
    keys = jax.random.split(jax.random.key(0), 3)
    three = vae.draw(posterior, keys)
    alone = vae.draw(jax.tree.map(lambda x: x[1:2], posterior), keys[1:2])
    np.testing.assert_array_equal(three[1:2], alone)
    assert (three[0] != three[1]).all()


def test_unscale_inverts_scale():
    _, config, _ = pair("sixteen_channels_shifted")
    z = jnp.asarray(normal(1, 4, 4, 16))
    np.testing.assert_allclose(vae.scale(config, z), (z - 0.1159) * 0.3611, rtol=1e-5)
    assert_close(vae.unscale(config, vae.scale(config, z)), z)


@pytest.mark.parametrize("level", ["block", "layer"])
def test_remat_changes_no_gradient(level):
    _, config, params = pair("like_sd")
    latents = normal(1, 4, 4, 4)

    def loss(params, compute):
        return jnp.square(decode(params, config, latents, compute=compute)).mean()

    plain, remat = (
        flat(jax.grad(loss)(params, Compute(remat=remat))) for remat in ("none", level)
    )
    for path, gradient in plain.items():
        np.testing.assert_allclose(remat[path], gradient, rtol=1e-3, atol=1e-5)
    primitives = str(
        jax.make_jaxpr(loss, static_argnums=1)(params, Compute(remat=level))
    )
    assert "remat" in primitives or "checkpoint" in primitives


def test_half_precision_computes_in_half_and_returns_float32():
    _, config, params = pair("like_sd")
    images = np.clip(normal(1, 16, 16, 3), -1, 1)
    exact = encode(params, config, images).mean
    half = encode(params, config, images, compute=Compute("bfloat16")).mean
    assert half.dtype == jnp.float32
    assert 0 < abs(half - exact).max() < 0.1


def test_force_upcast_computes_float16_in_float32():
    _, config, params = pair("like_sd")
    latents = normal(1, 4, 4, 4)
    exact = decode(params, config, latents)
    upcast = decode(params, config, latents, compute=Compute("float16"))
    np.testing.assert_array_equal(upcast, exact)
    free = dataclasses.replace(config, force_upcast=False)
    half = decode(params, free, latents, compute=Compute("float16"))
    assert (half != exact).any()


def test_init_makes_what_eval_shape_says():
    _, config, params = pair("like_sd")
    made = vae.init_vae(jax.random.key(0), config)
    assert {k: v.shape for k, v in flat(made).items()} == {
        k: v.shape for k, v in flat(params).items()
    }
    assert jnp.isfinite(decode(made, config, normal(1, 4, 4, 4))).all()


def test_the_defaults_are_sd15():
    shapes = template(VAEConfig())
    assert count(shapes) == 83_653_863
    assert len(flat(shapes)) == 248


def test_the_embedded_config_is_read():
    path = Path(personax.__file__).parent / "assets/emoji/pipeline/vae/config.json"
    config = VAEConfig.from_json(json.loads(path.read_text()))
    assert (config.latent_channels, config.factor, config.sample_size) == (8, 4, 32)
    assert not config.mid_block_add_attention
    weights = path.with_name("diffusion_pytorch_model.safetensors")
    module = diffusers.AutoencoderKL.from_pretrained(weights.parent)
    params = from_torch(module.float(), template(config))
    images = np.clip(normal(1, 32, 32, 3), -1, 1)
    with torch.no_grad():
        expected = module.encode(nchw(images)).latent_dist.mean
    assert_close(encode(params, config, images).mean, nhwc(expected))


@pytest.mark.parametrize(
    "option",
    [
        {"act_fn": "gelu"},
        {"latents_mean": [0.0]},
        {"down_block_types": ["AttnDownEncoderBlock2D"]},
        {"up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"]},
        {"new_option": 1},
    ],
)
def test_an_option_that_changes_the_numbers_is_refused_by_name(option):
    (name,) = option
    with pytest.raises(ValueError, match=f"AutoencoderKL does not compute {name}="):
        VAEConfig.from_json({"block_out_channels": [32, 64], **option})


def test_groups_that_do_not_divide_the_widths_are_refused():
    with pytest.raises(ValueError, match="norm_num_groups 32 does not divide"):
        VAEConfig(block_out_channels=(48,))

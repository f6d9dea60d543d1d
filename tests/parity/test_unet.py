"""The UNet against torch diffusers: same random weights, float32, tolerance 1e-4."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from personax.core.tree import flat, overwrite, select
from personax.networks.compute import Compute
from personax.networks.unet import UNetConfig, init_unet, unet
from tests.parity.from_torch import from_torch
from tests.small_configs import CROSS, CROSS_UP, DOWN, FOUR_BLOCKS, PARITY_UNET, UP

TOLERANCE = 1e-4  # max abs error of the forward pass
GRADIENT_TOLERANCE = 1e-3  # relative to the largest gradient

CONFIGS = {
    "sd1-like": FOUR_BLOCKS,
    "sd2-like": dataclasses.replace(
        PARITY_UNET,
        block_out_channels=(32, 64, 64),
        down_block_types=(CROSS, CROSS, DOWN),
        up_block_types=(UP, CROSS_UP, CROSS_UP),
        layers_per_block=2,
        attention_head_dim=(2, 4, 8),
        use_linear_projection=True,
    ),
    "one resnet a block": PARITY_UNET,
    "nine channels in": dataclasses.replace(PARITY_UNET, in_channels=9, out_channels=3),
    "two transformers deep": dataclasses.replace(
        PARITY_UNET, transformer_layers_per_block=(2, 1), use_linear_projection=True
    ),
    "odd first width": dataclasses.replace(
        PARITY_UNET,
        block_out_channels=(33, 66),
        attention_head_dim=3,
        norm_num_groups=3,
    ),
    "unequal layers, sines first": dataclasses.replace(
        PARITY_UNET,
        layers_per_block=(1, 2),
        attention_head_dim=2,
        flip_sin_to_cos=False,
        freq_shift=1.0,
        norm_num_groups=16,
    ),
}


def make(config: UNetConfig):
    options = dataclasses.asdict(config)
    torch.manual_seed(0)
    model = UNet2DConditionModel(**options).eval()
    template = jax.eval_shape(lambda: init_unet(jax.random.key(0), config))
    return model, from_torch(model, template)


def inputs(config: UNetConfig, side: int = 8):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, side, side, config.in_channels), np.float32)
    text = rng.standard_normal((2, 7, config.cross_attention_dim), np.float32)
    return x, np.array([3.0, 721.0], np.float32), text


def torch_forward(model, x, t, text):
    with torch.no_grad():
        out = model(*as_torch(x, t, text)).sample
    return out.numpy().transpose(0, 2, 3, 1)


def as_torch(x, t, text):
    return torch.tensor(x.transpose(0, 3, 1, 2)), torch.tensor(t), torch.tensor(text)


def forward(params, config, *arrays, **options):
    run = jax.jit(lambda p, *a: unet(p, config, *a, **options)[0])
    return run(params, *map(jnp.asarray, arrays))


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_equals_diffusers(name):
    config = CONFIGS[name]
    model, params = make(config)
    arrays = inputs(config)
    difference = np.abs(
        forward(params, config, *arrays) - torch_forward(model, *arrays)
    ).max()
    assert difference <= TOLERANCE


def test_odd_latents_equal_diffusers():
    config = CONFIGS["sd1-like"]
    model, params = make(config)
    arrays = inputs(config, side=11)
    difference = np.abs(
        forward(params, config, *arrays) - torch_forward(model, *arrays)
    ).max()
    assert difference <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "remat"),
    [
        ("one resnet a block", "none"),
        ("one resnet a block", "block"),
        ("one resnet a block", "layer"),
        ("two transformers deep", "none"),
    ],
)
def test_gradients_of_keys_and_values_equal_torch(name, remat):
    config = CONFIGS[name]
    model, params = make(config)
    x, t, text = inputs(config)
    target = np.random.default_rng(1).standard_normal(
        (*x.shape[:3], config.out_channels), np.float32
    )
    out = model(*as_torch(x, t, text)).sample
    (out - torch.tensor(target.transpose(0, 3, 1, 2))).square().mean().backward()
    expected = from_torch(
        {k: v.grad for k, v in model.named_parameters()},
        jax.eval_shape(lambda: params),
    )
    pattern = r".*/attn2/to_[kv]/kernel"
    theta = select(params, pattern)
    arrays = [jnp.asarray(array) for array in (x, t, text)]

    def loss(theta):
        bound = overwrite(params, theta)
        y, _ = unet(bound, config, *arrays, compute=Compute(remat=remat))
        return jnp.square(y - target).mean()

    gradients = jax.jit(jax.grad(loss))(theta)
    for path, reference in select(expected, pattern).items():
        scale = np.abs(reference).max()
        assert scale > 0
        error = np.abs(gradients[path] - reference).max() / scale
        assert error <= GRADIENT_TOLERANCE, path


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision_stays_near_float32(dtype, bound):
    config = CONFIGS["one resnet a block"]
    _, params = make(config)
    arrays = inputs(config)
    exact = forward(params, config, *arrays)
    half = forward(params, config, *arrays, compute=Compute(dtype=dtype))
    assert half.dtype == jnp.float32
    difference = np.abs(half - exact).max() / np.abs(exact).max()
    assert 0 < difference <= bound


def test_stored_half_and_computed_in_float32_are_separate():
    config = CONFIGS["one resnet a block"]
    _, params = make(config)
    stored = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    rounded = jax.tree.map(lambda x: x.astype(jnp.float32), stored)
    arrays = inputs(config)
    np.testing.assert_allclose(
        forward(stored, config, *arrays), forward(rounded, config, *arrays), atol=1e-5
    )


@pytest.mark.full_size
def test_stable_diffusion_at_full_size():
    config = UNetConfig()
    model, params = make(config)
    arrays = inputs(config, side=64)
    arrays = (arrays[0][:1], arrays[1][:1], arrays[2][:1])
    difference = np.abs(
        forward(params, config, *arrays) - torch_forward(model, *arrays)
    ).max()
    print(f"SD 1.5, 64x64 latents: max abs difference {difference:.2e}")
    assert len(flat(params)) == 686
    assert difference <= TOLERANCE

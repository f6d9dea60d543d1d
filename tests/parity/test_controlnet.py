"""The ControlNet against torch diffusers: same random weights, tolerance 1e-4."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from personax.core.tree import flat
from personax.loading import embedded, load_controlnet
from personax.loading.files import read_json
from personax.loading.write import write_controlnet
from personax.networks.controlnet import (
    ControlNetConfig,
    controlnet,
    copy_encoder,
    embed_hint,
    init_controlnet,
)
from personax.networks.unet import Residuals, UNetConfig, init_unet, unet
from tests.parity.from_torch import from_torch
from tests.small_configs import PARITY_UNET

TOLERANCE = 1e-4  # max abs error

UNETS = {
    "sd1-like": dataclasses.replace(
        PARITY_UNET, layers_per_block=2, attention_head_dim=8
    ),
    "embedded": UNetConfig.from_json(
        read_json(embedded("pipeline") / "unet" / "config.json")
    ),
}
HINTS = {"sd1-like": (8, 12, 16, 20), "embedded": (16, 32, 64)}


def config_of(name: str, **more) -> ControlNetConfig:
    config = ControlNetConfig.of(UNETS[name], HINTS[name])
    return dataclasses.replace(config, **more)


def make(config: ControlNetConfig):
    """(diffusers' model, its parameters here); what starts as zero is random too."""
    torch.manual_seed(0)
    model = ControlNetModel(**dataclasses.asdict(config)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
            # As torch starts them, these six layers leave next to nothing of a hint.
            if "cond_embedding" in name and parameter.ndim == 4:
                parameter.normal_(std=2 * parameter[0].numel() ** -0.5)
    template = jax.eval_shape(lambda: init_controlnet(jax.random.key(0), config))
    return model, from_torch(model, template)


def inputs(config: ControlNetConfig, side: int = 8):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, side, side, config.in_channels), np.float32)
    text = rng.standard_normal((2, 7, config.cross_attention_dim), np.float32)
    size = side * config.factor
    hint = rng.random((2, size, size, config.conditioning_channels), np.float32)
    return x, np.array([3.0, 721.0], np.float32), text, hint


def to_torch(array):
    return torch.tensor(np.moveaxis(array, -1, 1) if array.ndim == 4 else array)


def from_nchw(tensor):
    return tensor.numpy().transpose(0, 2, 3, 1)


def torch_residuals(model, x, t, text, hint, **options):
    x, t, text, hint = map(to_torch, (x, t, text, hint))
    with torch.no_grad():
        out = model(x, t, text, controlnet_cond=hint, **options)
    return out.down_block_res_samples, out.mid_block_res_sample


def residuals(params, config, x, t, text, hint, strength=None) -> Residuals:
    @jax.jit
    def run(params, x, t, text, hint, strength):
        read = embed_hint(params, config, hint)
        return controlnet(params, config, x, t, text, read, strength=strength)

    if strength is not None:
        strength = jnp.full(len(x), strength)
    return run(params, *map(jnp.asarray, (x, t, text, hint)), strength)


def difference(ours: Residuals, down, mid) -> float:
    pairs = zip((*ours.down, ours.mid), (*down, mid), strict=True)
    return max(np.abs(a - from_nchw(b)).max() for a, b in pairs)


def check(config: ControlNetConfig, strength: float | None = None):
    """The largest error, with a hint whose channels' order tells."""
    model, params = make(config)
    *arrays, hint = inputs(config)
    scale = {} if strength is None else {"conditioning_scale": strength}
    down, mid = torch_residuals(model, *arrays, hint, **scale)
    assert min(tensor.abs().max() for tensor in (*down, mid)) > 0.01
    turned = torch_residuals(model, *arrays, hint[..., ::-1].copy(), **scale)[1]
    assert (turned - mid).abs().max() > 100 * TOLERANCE
    ours = residuals(params, config, *arrays, hint, strength)
    return difference(ours, down, mid)


def test_residuals_equal_diffusers():
    assert check(config_of("embedded")) <= TOLERANCE


def test_the_conditioning_scale_and_the_channels_order_equal_diffusers():
    order = {"controlnet_conditioning_channel_order": "bgr"}
    assert check(config_of("sd1-like", **order), 0.35) <= TOLERANCE


@pytest.mark.parametrize("name", UNETS)
def test_the_unet_with_residuals_equals_diffusers(name):
    config = UNETS[name]
    torch.manual_seed(1)
    model = UNet2DConditionModel(**dataclasses.asdict(config)).eval()
    template = jax.eval_shape(lambda: init_unet(jax.random.key(0), config))
    params = from_torch(model, template)
    controlling, _ = make(config_of(name))
    x, t, text, hint = inputs(config_of(name))
    down, mid = torch_residuals(controlling, x, t, text, hint)
    with torch.no_grad():
        expected = model(
            *map(to_torch, (x, t, text)),
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        without = model(*map(to_torch, (x, t, text))).sample
    assert (without - expected).abs().max() > 100 * TOLERANCE
    added = Residuals(
        tuple(jnp.asarray(from_nchw(each)) for each in down),
        jnp.asarray(from_nchw(mid)),
    )
    run = jax.jit(lambda p, r, *a: unet(p, config, *a, residuals=r)[0])
    ours = run(params, added, *map(jnp.asarray, (x, t, text)))
    assert np.abs(ours - from_nchw(expected)).max() <= TOLERANCE


def test_training_starts_as_diffusers_does():
    config = UNETS["sd1-like"]
    torch.manual_seed(2)
    model = UNet2DConditionModel(**dataclasses.asdict(config))
    template = jax.eval_shape(lambda: init_unet(jax.random.key(0), config))
    begin = jax.jit(lambda unet: copy_encoder(jax.random.key(0), unet, (8, 12, 16)))
    start = begin(from_torch(model, template))
    theirs = ControlNetModel.from_unet(
        model, conditioning_embedding_out_channels=(8, 12, 16)
    )
    template = jax.eval_shape(lambda: start)
    ours, theirs = flat(start), flat(from_torch(theirs, template))
    assert ours.keys() == theirs.keys()
    # The hint encoder before its end is ours to choose: kernels as He et al. have them.
    hint = {path for path in ours if "cond_embedding" in path}
    hint -= {path for path in hint if "conv_out" in path}
    assert len(hint) == 10
    for path in ours.keys() - hint:
        np.testing.assert_array_equal(ours[path], theirs[path], err_msg=path)
    for path in hint:
        leaf = np.asarray(ours[path])
        if leaf.ndim == 1:
            assert not leaf.any(), path
        else:
            wanted = np.sqrt(2 / np.prod(leaf.shape[:-1]))
            assert 0.8 * wanted < leaf.std() < 1.2 * wanted, path


def test_what_diffusers_writes_is_read_and_the_reverse(tmp_path):
    config = config_of("embedded", block_out_channels=(16, 32))
    model, params = make(config)
    model.save_pretrained(tmp_path / "theirs")
    loaded = load_controlnet(tmp_path / "theirs")
    assert loaded.config == config
    for path, leaf in flat(params).items():
        np.testing.assert_array_equal(flat(loaded.params)[path], leaf, err_msg=path)
    write_controlnet(tmp_path / "ours", loaded.params, loaded.config)
    back = ControlNetModel.from_pretrained(tmp_path / "ours")
    state = model.state_dict()
    assert back.config["conditioning_embedding_out_channels"] == [16, 32, 64]
    for name, tensor in back.state_dict().items():
        assert torch.equal(tensor, state[name]), name

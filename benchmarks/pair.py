"""The same model twice: torch diffusers' and personax's, with the same weights."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from diffusers import UNet2DConditionModel

from personax.loading import embedded
from personax.networks.unet import UNetConfig, init_unet
from personax.tree import flat, nest
from personax.typing import Params


class Pair(NamedTuple):
    """A UNet in torch and in JAX, and what both are called with."""

    torch_model: UNet2DConditionModel
    params: Params
    config: UNetConfig


def unets(model: str, seed: int = 0) -> Pair:
    """The pair named "sd15" (random weights, full size) or "emoji" (trained, small)."""
    torch.manual_seed(seed)
    if model == "emoji":
        network = UNet2DConditionModel.from_pretrained(embedded("pipeline") / "unet")
        network = network.float()
    else:
        network = UNet2DConditionModel(
            attention_head_dim=8, cross_attention_dim=768, sample_size=64
        )
    config = UNetConfig.from_json(dict(network.config))
    return Pair(network.eval(), to_params(network, config), config)


def to_params(network: UNet2DConditionModel, config: UNetConfig) -> Params:
    """The torch network's weights in personax's tree."""
    state, leaves = network.state_dict(), {}
    for path in flat(jax.eval_shape(lambda: init_unet(jax.random.key(0), config))):
        *module, leaf = path.split("/")
        name = "weight" if leaf in ("kernel", "scale") else leaf
        array = state[".".join([*module, name])].numpy()
        if leaf == "kernel":
            array = array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)
        leaves[path] = jnp.asarray(np.ascontiguousarray(array))
    return nest(leaves)

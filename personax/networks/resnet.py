"""The residual block that the UNet and the autoencoder share."""

import jax
from jaxtyping import Array, Float

from personax.core.typing import Key, Params
from personax.networks.compute import Compute
from personax.networks.layers import (
    conv,
    dense,
    group_norm,
    init_conv,
    init_dense,
    init_norm,
    keys_for,
)


def resnet(
    params: Params,
    x: Float[Array, "b h w i"],
    temb: Float[Array, "b t"] | None = None,
    *,
    groups: int,
    eps: float,
    compute: Compute = Compute(),
) -> Float[Array, "b h w o"]:
    """norm, silu, conv twice, the time embedding between, and the input added."""
    y = jax.nn.silu(group_norm(params["norm1"], x, groups=groups, eps=eps))
    y = conv(params["conv1"], y, compute=compute)
    if temb is not None:
        y = y + dense(params["time_emb_proj"], jax.nn.silu(temb))[:, None, None]
    y = jax.nn.silu(group_norm(params["norm2"], y, groups=groups, eps=eps))
    y = conv(params["conv2"], y, compute=compute)
    if "conv_shortcut" in params:
        x = conv(params["conv_shortcut"], x, compute=compute)
    return x + y


def init_resnet(
    key: Key, inputs: int, outputs: int, time_width: int | None = None
) -> Params:
    keys = keys_for(key, "conv1", "conv2", "time_emb_proj", "conv_shortcut")
    params = {
        "norm1": init_norm(inputs),
        "conv1": init_conv(keys["conv1"], 3, inputs, outputs),
        "norm2": init_norm(outputs),
        "conv2": init_conv(keys["conv2"], 3, outputs, outputs),
    }
    if time_width is not None:
        params["time_emb_proj"] = init_dense(keys["time_emb_proj"], time_width, outputs)
    if inputs != outputs:
        params["conv_shortcut"] = init_conv(keys["conv_shortcut"], 1, inputs, outputs)
    return params

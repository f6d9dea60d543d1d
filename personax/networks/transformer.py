"""The spatial transformer: self-attention, cross-attention and a gated feed-forward."""

from typing import Literal

import jax
from jaxtyping import Array, Float

from personax.core.typing import AttentionMaps, Key, Params, Text, TextOf
from personax.networks.attention import (
    Context,
    Control,
    Site,
    attention,
    init_attention,
)
from personax.networks.compute import Compute
from personax.networks.layers import (
    conv,
    dense,
    group_norm,
    init_conv,
    init_dense,
    init_norm,
    keys_for,
    layer_norm,
)


def transformer(
    params: Params,
    x: Float[Array, "b h w c"],
    text: Text | TextOf,
    *,
    heads: int,
    groups: int,
    name: str,
    place: Literal["down", "mid", "up"],
    controls: tuple[Control, ...],
    context: Context,
    compute: Compute,
) -> tuple[Float[Array, "b h w c"], AttentionMaps]:
    """(`x` after the transformer blocks, the probabilities that controls keep).

    `name` is this transformer's path in the UNet; its sites are named below it. A block
    whose cross-attention is {"null": vector} adds that and reads no text.
    """
    b, h, w, c = x.shape
    linear = params["proj_in"]["kernel"].ndim == 2
    y = group_norm(params["norm"], x, groups=groups, eps=1e-6)
    if linear:
        y = dense(params["proj_in"], y.reshape(b, h * w, c))
    else:
        y = conv(params["proj_in"], y, compute=compute).reshape(b, h * w, c)
    captured: AttentionMaps = {}

    def read(params: Params, site: Site, y: Array, source: Text | TextOf) -> Array:
        out, maps = attention(
            params,
            y,
            source(site) if callable(source) else source,
            heads=heads,
            site=site,
            controls=controls,
            context=context,
            compute=compute,
        )
        captured.update(maps)
        return out

    # By number: jax sorts the keys as strings, "10" before "2".
    for i in range(len(params["transformer_blocks"])):
        block, below = params["transformer_blocks"][str(i)], f"transformer_blocks/{i}"
        z = layer_norm(block["norm1"], y)
        site = Site(f"{name}/{below}/attn1", "self", place, h * w)
        y = y + read(block["attn1"], site, z, z)
        if "null" in block["attn2"]:
            y = y + block["attn2"]["null"].astype(y.dtype)[None, None]
        else:
            z = layer_norm(block["norm2"], y)
            site = Site(f"{name}/{below}/attn2", "cross", place, h * w)
            y = y + read(block["attn2"], site, z, text)
        y = y + _feed_forward(block["ff"]["net"], layer_norm(block["norm3"], y))
    if linear:
        y = dense(params["proj_out"], y).reshape(b, h, w, c)
    else:
        y = conv(params["proj_out"], y.reshape(b, h, w, c), compute=compute)
    return x + y, captured


def init_transformer(
    key: Key, width: int, text_width: int, *, depth: int, linear: bool
) -> Params:
    """Parameters of `depth` blocks; `linear` projections are dense, others 1x1."""
    keys = keys_for(key, "proj_in", "proj_out", "blocks")
    if linear:
        project = init_dense
    else:

        def project(key, inputs, outputs):
            return init_conv(key, 1, inputs, outputs)

    blocks = enumerate(jax.random.split(keys["blocks"], depth))
    return {
        "norm": init_norm(width),
        "proj_in": project(keys["proj_in"], width, width),
        "transformer_blocks": {
            str(i): _init_block(block_key, width, text_width) for i, block_key in blocks
        },
        "proj_out": project(keys["proj_out"], width, width),
    }


def _init_block(key: Key, width: int, text_width: int) -> Params:
    keys = keys_for(key, "attn1", "attn2", "gate", "out")
    return {
        "norm1": init_norm(width),
        "attn1": init_attention(keys["attn1"], width),
        "norm2": init_norm(width),
        "attn2": init_attention(keys["attn2"], width, text_width),
        "norm3": init_norm(width),
        "ff": {
            "net": {
                "0": {"proj": init_dense(keys["gate"], width, 8 * width)},
                "2": init_dense(keys["out"], 4 * width, width),
            }
        },
    }


def _feed_forward(params: Params, x: Float[Array, "b q c"]) -> Float[Array, "b q c"]:
    # GEGLU, Shazeer 2020, with the exact (erf) gelu that diffusers uses.
    y, gate = jax.numpy.split(dense(params["0"]["proj"], x), 2, axis=-1)
    return dense(params["2"], y * jax.nn.gelu(gate, approximate=False))

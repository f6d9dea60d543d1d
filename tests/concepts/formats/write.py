"""LoRA files under the conventions of other programs, written without torch."""

import numpy as np
from safetensors.numpy import save_file

from personax.core.tree import flat
from personax.loading.names import from_layout

KEYS = "unet/down_blocks/0/attentions/0/transformer_blocks/0/attn2/to_k/kernel"
CONV = "unet/down_blocks/0/resnets/0/conv1/kernel"
QUERY = "text_encoder/text_model/encoder/layers/0/self_attn/q_proj/kernel"


def kohya_name(path):
    """kohya's name of a module: its path with underscores, behind a prefix."""
    component, _, module = path.removesuffix("/kernel").partition("/")
    prefix = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[component]
    return prefix + module.replace("/", "_")


def shape_of(params, path):
    """A parameter's shape in torch's layout."""
    return from_layout(path, np.asarray(flat(params)[path])).shape


def factors(params, path, rank=2, seed=0):
    """(down, up) in torch's layout."""
    rng = np.random.default_rng(seed)
    out, *inputs = shape_of(params, path)
    ones = [1] * (len(inputs) - 1)
    down = rng.standard_normal((rank, *inputs), np.float32)
    return down, rng.standard_normal((out, rank, *ones), np.float32)


def write_lora(file, params, *paths, alpha=1.0, rank=2):
    """A LoRA in kohya's names; returns {path: W's change in torch's layout}."""
    tensors, changes = {}, {}
    for i, path in enumerate(paths):
        down, up = factors(params, path, rank, seed=i)
        name = kohya_name(path)
        tensors[f"{name}.lora_down.weight"] = down
        tensors[f"{name}.lora_up.weight"] = up
        tensors[f"{name}.alpha"] = np.array(alpha, np.float32)
        product = up.reshape(len(up), rank) @ down.reshape(rank, -1)
        changes[path] = alpha / rank * product.reshape(shape_of(params, path))
    save_file(tensors, file)
    return changes


def changes_of(model, base, path):
    """W' - W of a bound model, in torch's layout."""
    new, old = (np.asarray(flat(x)[path]) for x in (model.denoiser.params, base.params))
    return from_layout(path, new) - from_layout(path, old)

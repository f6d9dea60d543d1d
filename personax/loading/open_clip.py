"""OpenCLIP's text encoder, as single-file checkpoints of Stable Diffusion 2.x have it.

Radford et al.'s names (github.com/openai/CLIP): one projection for query, key and
value, and a projection of the pooled text, which image models do not use.
"""

import re
from collections.abc import Iterable

import numpy as np

from personax.loading.names import torch_name
from personax.loading.stored import Stored

# transformers' names to OpenCLIP's.
_NAMES = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.": "",
    "text_model.final_layer_norm.": "ln_final.",
    "text_model.encoder.layers.": "transformer.resblocks.",
    ".layer_norm": ".ln_",
    ".self_attn.": ".attn.",
    ".mlp.fc1.": ".mlp.c_fc.",
    ".mlp.fc2.": ".mlp.c_proj.",
}
LAYER = re.compile(r"transformer\.resblocks\.(\d+)\..*")
_IGNORED = re.compile(r"visual\..*|text_projection(\..*)?|logit_scale|attn_mask")


def without_ignored(stored: Stored, prefix: str) -> Stored:
    """`stored` without what no network here reads."""
    return {
        name: tensor
        for name, tensor in stored.items()
        if not _IGNORED.fullmatch(name.removeprefix(prefix))
    }


def split_fused(stored: Stored) -> Stored:
    """`stored` with each fused projection in three views: "….in_proj_weight[q]", …

    A tensor that is not three times as long as wide is misshapen later.
    """
    split = {}
    for name, tensor in stored.items():
        if ".attn.in_proj_" in name and tensor.ndim > 0:
            parts = zip("qkv", np.array_split(tensor, 3), strict=True)
            split.update({f"{name}[{part}]": rows for part, rows in parts})
        else:
            split[name] = tensor
    return split


def open_clip_names(paths: Iterable[str], prefix: str) -> dict[str, str]:
    """{path: name in the file whose projections `split_fused` has split}."""
    names = {}
    for path in paths:
        name = torch_name(path)
        for ours, theirs in _NAMES.items():
            name = name.replace(ours, theirs)
        name = re.sub(r"\.([qkv])_proj\.(\w+)$", r".in_proj_\2[\1]", name)
        names[path] = prefix + name
    return names

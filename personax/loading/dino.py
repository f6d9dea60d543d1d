"""A pretrained DINO, as transformers writes it or as its authors published it."""

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax import struct

from personax.core.tree import nest
from personax.core.typing import Key, Params
from personax.loading import files, names
from personax.loading.place import place
from personax.loading.stored import Stored
from personax.networks.vit import ViTConfig, init_vit

# ImageNet's, which DINO was trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The authors' ViT-S/16, whose file comes without a configuration: only the norms'
# epsilon is not what transformers' conversion states.
_ORIGINAL = ViTConfig(layer_norm_eps=1e-6)

# Our torch names to those of transformers' ViTModel and of the authors' checkpoint.
_TRANSFORMERS = {
    "embeddings.class_embedding": "embeddings.cls_token",
    "embeddings.position_embedding": "embeddings.position_embeddings",
    "embeddings.patch_embedding.": "embeddings.patch_embeddings.projection.",
    "encoder.layers.": "encoder.layer.",
    ".self_attn.q_proj.": ".attention.attention.query.",
    ".self_attn.k_proj.": ".attention.attention.key.",
    ".self_attn.v_proj.": ".attention.attention.value.",
    ".self_attn.out_proj.": ".attention.output.dense.",
    ".layer_norm1.": ".layernorm_before.",
    ".layer_norm2.": ".layernorm_after.",
    ".mlp.fc1.": ".intermediate.dense.",
    ".mlp.fc2.": ".output.dense.",
    "post_layernorm.": "layernorm.",
}
_AUTHORS = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding": "pos_embed",
    "embeddings.patch_embedding.": "patch_embed.proj.",
    "encoder.layers.": "blocks.",
    ".self_attn.out_proj.": ".attn.proj.",
    ".self_attn.": ".attn.",
    ".layer_norm1.": ".norm1.",
    ".layer_norm2.": ".norm2.",
    "post_layernorm.": "norm.",
}


@struct.dataclass
class Dino:
    """A DINO, and what its images go through before it."""

    params: Params
    config: ViTConfig = struct.field(pytree_node=False)
    mean: tuple[float, ...] = struct.field(pytree_node=False)  # of images in [0, 1]
    std: tuple[float, ...] = struct.field(pytree_node=False)


def load_dino(
    directory: str | Path, *, param_dtype: str = "float32", allow_pickle: bool = False
) -> Dino:
    """The DINO in a directory as transformers writes it, or in the authors' own file.

    A directory has config.json and model.safetensors (or, with `allow_pickle`,
    pytorch_model.bin), and may have preprocessor_config.json; its tensors may bear the
    authors' names. A file such as dino_deitsmall16_pretrain.pth is taken for ViT-S/16.
    Raises FileNotFoundError or ValueError in one sentence saying what is missing or
    does not fit.
    """
    source = Path(directory)
    if source.is_file():
        config, scaling = _ORIGINAL, Scaling(_MEAN, _STD)
        stored = files.open_file(source, allow_pickle=allow_pickle)
    else:
        config = ViTConfig.from_json(read_config_json(source, "DINO"))
        scaling = read_scaling(source, Scaling(_MEAN, _STD))
        stored = files.open_weights(source, "model", allow_pickle=allow_pickle)
    # The pooler is not trained, and no part of the feature.
    stored = {k: v for k, v in stored.items() if not k.startswith("pooler.")}
    theirs = _AUTHORS if "cls_token" in stored else _TRANSFORMERS
    params = fitted(source, init_vit, config, stored, theirs=theirs, dtype=param_dtype)
    return Dino(params, config, scaling.mean, scaling.std)


class Scaling(NamedTuple):
    """What images in [0, 1] are reduced by, then divided by."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_config_json(directory: Path, kind: str) -> dict[str, Any]:
    """config.json of a network's directory, as transformers writes it.

    Raises FileNotFoundError that says which file is missing, or that all of them are.
    """
    wanted = f"a {kind} as transformers writes it has config.json and model.safetensors"
    if not directory.is_dir():
        raise FileNotFoundError(f"There is no directory {directory}; {wanted}.")
    if not (directory / "config.json").is_file():
        found = ", ".join(sorted(path.name for path in directory.iterdir()))
        raise FileNotFoundError(
            f"{directory} has no config.json; {wanted}; it holds {found or 'nothing'}."
        )
    return files.read_json(directory / "config.json")


def read_scaling(directory: Path, default: Scaling) -> Scaling:
    """The scaling that a directory's preprocessor states, `default` where none does.

    That is preprocessor_config.json, or the part of processor_config.json that
    transformers 5 writes where there is a tokenizer as well.
    """
    values = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (directory / name).is_file():
            stated = files.read_json(directory / name)
            values |= stated.get("image_processor") or stated
    return Scaling(
        tuple(values.get("image_mean", default.mean)),
        tuple(values.get("image_std", default.std)),
    )


def fitted(
    source: Path,
    init: Callable[[Key, Any], Params],
    config: Any,
    stored: Stored,
    *,
    theirs: Mapping[str, str],
    dtype: str,
) -> Params:
    """The parameters that `init` makes of `config`, with the tensors of `stored`.

    `theirs` is {part of our torch names: what stands there in the file}; what it leaves
    of q_proj, k_proj and v_proj is fused in the file. Raises ValueError naming what of
    `source` is missing, extra or misshapen.
    """
    template = names.template(init, config)
    stored = _split_qkv(names.without_ignored("", stored))
    match = names.match(template, _translated(template, theirs), stored)
    names.report(str(source), [match])
    return nest(place(match.found, template, dtype=dtype))


def _split_qkv(stored: Stored) -> Stored:
    """`stored` with each fused projection in three: "….qkv.weight[q]", "[k]", "[v]".

    The parts are views; those of a tensor that is not three times as long fit nowhere.
    """
    split = {}
    for name, tensor in stored.items():
        if ".qkv." in name:
            parts = zip("qkv", np.array_split(tensor, 3), strict=True)
            split.update({f"{name}[{part}]": rows for part, rows in parts})
        else:
            split[name] = tensor
    return split


def _translated(paths: Iterable[str], theirs: Mapping[str, str]) -> dict[str, str]:
    """{path: name in the split file}."""
    found = {}
    for path in paths:
        name = names.torch_name(path)
        for ours, other in theirs.items():
            name = name.replace(ours, other)
        found[path] = re.sub(r"\b([qkv])_proj\.(\w+)", r"qkv.\2[\1]", name)
    return found

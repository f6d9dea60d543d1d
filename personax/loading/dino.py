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

# ImageNet's statistics, with which DINO was trained.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# The authors' ViT-S/16, whose file has no config: only the norms' epsilon differs from
# transformers' conversion.
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
    """A DINO and its preprocessing."""

    params: Params
    config: ViTConfig = struct.field(pytree_node=False)
    mean: tuple[float, ...] = struct.field(pytree_node=False)  # of images in [0, 1]
    std: tuple[float, ...] = struct.field(pytree_node=False)


def load_dino(
    directory: str | Path, *, param_dtype: str = "float32", allow_pickle: bool = False
) -> Dino:
    """The DINO in a directory as transformers writes it, or in the authors' own file.

    A directory has config.json and model.safetensors (or, with `allow_pickle`,
    pytorch_model.bin), and may have preprocessor_config.json; its tensors may have the
    authors' names. A file such as dino_deitsmall16_pretrain.pth is read as ViT-S/16.
    Raises FileNotFoundError for missing files and ValueError for tensors that are
    missing, extra or misshapen.
    """
    source = Path(directory)
    if source.is_file():
        config, scaling = _ORIGINAL, Scaling(_MEAN, _STD)
        stored = files.open_file(source, allow_pickle=allow_pickle)
    else:
        config = ViTConfig.from_json(read_config_json(source, "DINO"))
        scaling = read_scaling(source, Scaling(_MEAN, _STD))
        stored = files.open_weights(source, "model", allow_pickle=allow_pickle)
    # The pooler is untrained and not part of the feature.
    stored = {k: v for k, v in stored.items() if not k.startswith("pooler.")}
    theirs = _AUTHORS if "cls_token" in stored else _TRANSFORMERS
    params = fitted(source, init_vit, config, stored, theirs=theirs, dtype=param_dtype)
    return Dino(params, config, scaling.mean, scaling.std)


class Scaling(NamedTuple):
    """Mean and standard deviation that normalise images in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def read_config_json(directory: Path, kind: str) -> dict[str, Any]:
    """config.json of a network's directory, as transformers writes it.

    Raises FileNotFoundError for a missing directory or file.
    """
    layout = f"a {kind} as transformers writes it has config.json and model.safetensors"
    if not directory.is_dir():
        raise FileNotFoundError(f"The directory {directory} does not exist; {layout}.")
    if not (directory / "config.json").is_file():
        names = ", ".join(sorted(path.name for path in directory.iterdir()))
        raise FileNotFoundError(
            f"{directory} has no config.json; {layout}; it has {names or 'no files'}."
        )
    return files.read_json(directory / "config.json")


def read_scaling(directory: Path, default: Scaling) -> Scaling:
    """The scaling of a directory's preprocessor, `default` without one.

    It is in preprocessor_config.json, or in the image part of the processor_config.json
    that transformers 5 writes for models with a tokenizer.
    """
    values = {}
    for name in ("processor_config.json", "preprocessor_config.json"):
        if (directory / name).is_file():
            config = files.read_json(directory / name)
            values |= config.get("image_processor") or config
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

    `theirs` is {part of our torch names: the file's}; where q_proj, k_proj and v_proj
    remain, the file has them fused. Raises ValueError for tensors of `source` that are
    missing, extra or misshapen.
    """
    template = names.template(init, config)
    stored = _split_qkv(names.without_ignored("", stored))
    match = names.match(template, _translated(template, theirs), stored)
    names.report(str(source), [match])
    return nest(place(match.tensors, template, dtype=dtype))


def _split_qkv(stored: Stored) -> Stored:
    """`stored` with each fused projection in three: "….qkv.weight[q]", "[k]", "[v]".

    The parts are views; a tensor that is not three times as long is misshapen later.
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
    translated = {}
    for path in paths:
        name = names.torch_name(path)
        for ours, other in theirs.items():
            name = name.replace(ours, other)
        translated[path] = re.sub(r"\b([qkv])_proj\.(\w+)", r"qkv.\2[\1]", name)
    return translated

"""Custom Diffusion (Kumari et al. 2023): cross-attention kernels and words.

Read are diffusers' pytorch_custom_diffusion_weights with the words' files (<new1>.bin)
beside it; delta.bin of the authors' diffusers code, whole or compressed into factors
u v that are added; and delta_*.ckpt of their CompVis code, in which words have no
names: they are called <new1>, <new2>, …, as its documentation does.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from personax.concepts.formats.adapter import (
    Adapter,
    Change,
    Family,
    File,
    Weight,
)
from personax.concepts.formats.embedding import as_rows
from personax.concepts.source import beside
from personax.core.tree import flat, nearest
from personax.core.typing import Params
from personax.loading import files
from personax.loading.ldm import ldm_names
from personax.loading.names import torch_name
from personax.methods.parts.tokens import TABLE
from personax.networks.unet import UNetConfig

_LAYER = r"attn[12]\.to_(?:q|k|v|out\.0)\.(?:weight|bias)(?:\.[uv])?"
_PROCESSOR = r".*\.attn2\.processor\.to_\w+_custom_diffusion\.(?:0\.)?(?:weight|bias)"
_WORD, _ROWS = "modifier_token.", "embed"
# {what a file looks like: the names of its tensors}, and one of them that it has.
_KINDS = {
    "Custom Diffusion in diffusers' layout": (
        rf"{_PROCESSOR}|.*\.attn1\.processor",
        _PROCESSOR,
    ),
    "Custom Diffusion in the layout of delta.bin": (
        rf"(?:unet\.)?(?:down|mid|up)_block.*\.{_LAYER}|modifier_token\..+"
        r"|text_encoder\..+",
        r".*\.attn2\..*|modifier_token\..+",
    ),
    "Custom Diffusion in CompVis' names": (
        rf"model\.diffusion_model\..*\.{_LAYER}|{_ROWS}",
        r".*\.attn2\..*",
    ),
}


def kind(file: File) -> str | None:
    """What a file of this family looks like; None for others."""
    names = file.tensors.keys()
    for title, (every, one) in _KINDS.items():
        has = any(re.fullmatch(one, name) for name in names)
        if has and all(re.fullmatch(every, name) for name in names):
            return title
    return None


def read(file: File, params: Params, unet: UNetConfig) -> Adapter:
    """The kernels and words of the file and of the words' files beside it.

    Raises ValueError for a tensor without a place in this base.
    """
    leaves = flat(params)
    width = leaves[TABLE].shape[1]
    paths = _paths_by_name(leaves, unet)
    words: dict[str, Weight] = {}
    stored: dict[str, dict[str, Weight]] = {}  # {path: {"", "u" or "v": tensor}}
    for name, tensor in file.tensors.items():
        if name.startswith(_WORD):
            word = name.removeprefix(_WORD)
            words[word] = as_rows(word, tensor, width)
        elif name == _ROWS:
            rows = as_rows(name, tensor, width)
            words |= {f"<new{i + 1}>": row[None] for i, row in enumerate(rows)}
        elif not tensor.size or name.endswith(".position_ids"):
            continue  # a self-attention's entry, which has no numbers
        else:
            path, factor = _place(name, paths)
            stored.setdefault(path, {})[factor] = tensor
    words |= _words_beside(file, width)
    return Adapter(dict(_changes(stored)), words)


def _place(name: str, paths: Mapping[str, str]) -> tuple[str, str]:
    """(a tensor's path, which factor of it the tensor is)."""
    plain = name.replace(".processor.", ".").replace("_custom_diffusion", "")
    factor = plain[-1] if plain.endswith((".u", ".v")) else ""
    plain = plain.removesuffix(f".{factor}") if factor else plain
    if plain not in paths:
        near = nearest(plain, paths, 1)
        raise ValueError(
            f"{name} names no parameter of this base; nearest: {near}. Nothing was "
            "applied."
        )
    return paths[plain], factor


def _changes(
    stored: Mapping[str, Mapping[str, Weight]],
) -> Iterator[tuple[str, Change]]:
    for path, tensors in stored.items():
        if tensors.keys() == {""}:
            yield path, _replaced(path, tensors[""])
        elif tensors.keys() == {"u", "v"}:
            yield path, _increased(tensors["u"], tensors["v"])
        else:
            raise ValueError(f"{torch_name(path)} has a factor u or v alone.")


def _replaced(path: str, tensor: Weight) -> Change:
    def change(W: Weight) -> Weight:
        # A text encoder is stored with the rows of its words, which come last.
        return tensor[: len(W)] if path == TABLE else tensor

    return change


def _increased(u: Weight, v: Weight) -> Change:
    return lambda W: W + np.asarray(u, np.float32) @ np.asarray(v, np.float32)


def _paths_by_name(leaves: Mapping[str, Any], config: UNetConfig) -> dict[str, str]:
    """{a parameter's name in any of the layouts: its path}."""
    unet = [path for path in leaves if path.startswith("unet/")]
    text = [path for path in leaves if path.startswith("text_encoder/")]
    names = {torch_name(path): path for path in (*unet, *text)}
    names |= {torch_name(path).removeprefix("unet."): path for path in unet}
    names |= {torch_name(path).replace(".text_model.", "."): path for path in text}
    inside = [path.removeprefix("unet/") for path in unet]
    ldm = ldm_names("unet", inside, config)
    return names | {name: f"unet/{path}" for path, name in ldm.items()}


def _words_beside(file: File, width: int) -> dict[str, Weight]:
    """The words in files such as <new1>.bin beside diffusers' weights."""
    words = {}
    for path in beside(file.path):
        if path.suffix == ".bin" and path.with_suffix(".safetensors").is_file():
            continue
        if path.suffix != ".safetensors" and not file.allow_pickle:
            raise ValueError(
                f"the word in {path} is a pickle, which may hold code; pass "
                "--allow_pickle to read it with the restricted reader."
            )
        stored = files.open_file(path, allow_pickle=file.allow_pickle)
        for word, tensor in stored.items():
            words[word] = as_rows(word, tensor, width)
            if not np.isfinite(words[word]).all():
                raise ValueError(f"{path} has NaN or infinite values.")
    return words


FAMILY = Family(
    kind,
    read,
    (
        "pytorch_custom_diffusion_weights.safetensors",
        "pytorch_custom_diffusion_weights.bin",
        "delta.safetensors",
        "delta.bin",
    ),
)

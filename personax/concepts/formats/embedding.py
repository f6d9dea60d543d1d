"""Textual Inversion: files of a word's rows, by diffusers, A1111, ComfyUI, kohya.

The layouts: {token: "d" or "n d"}, as diffusers writes learned_embeds; A1111's .pt with
`string_to_param` {"*": "n d"} and `name`; and {"emb_params": "n d"}. A1111, Forge and
ComfyUI call the word after the file, diffusers after the name inside: prompts may use
either.
"""

import re
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from personax.concepts.formats.adapter import Adapter, Family, File
from personax.core.tree import flat
from personax.core.typing import Params
from personax.methods.parts.tokens import TABLE
from personax.networks.unet import UNetConfig

_WEB_KEY = "emb_params"
_SDXL = frozenset(["clip_l", "clip_g"])
# Models by the width of their text encoder.
_MODELS = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x"}
# Names that say nothing, which a word cannot have.
_NAMELESS = ("", "*", "learned_embeds")
# A network's parameter, not a token.
_PARAMETER = re.compile(r".*\.(weight|bias|alpha|delta|scale)|[^.]*\.[^.]*\..*")


def kind(file: File) -> str | None:
    """What a file of this family looks like; None for others."""
    names = file.tensors.keys()
    if _SDXL & names:
        return "an embedding of Stable Diffusion XL"
    if _web_rows(file) is not None:
        return "a Textual Inversion embedding in A1111's layout"
    if names and all(map(_is_word, names, file.tensors.values())):
        return "a Textual Inversion embedding in diffusers' layout"
    return None


def read(file: File, params: Params, unet: UNetConfig) -> Adapter:
    """The word or words of the file, and the other name of a single one.

    Raises ValueError for rows that are not as wide as the base's embedding table.
    """
    if _SDXL & file.tensors.keys():
        raise ValueError(
            f"it has rows for two text encoders, {', '.join(sorted(file.tensors))}, of "
            "which this base has one."
        )
    width = flat(params)[TABLE].shape[1]
    stem = file.path.stem.strip()
    rows = _web_rows(file)
    if rows is not None:
        inner = file.tree.get("name") if isinstance(file.tree, dict) else None
        other = inner.strip() if isinstance(inner, str) else ""
        return Adapter({}, {stem: as_rows(stem, rows, width)}, _names(other, stem))
    words = {}
    for token, tensor in file.tensors.items():
        word = stem if token.strip() in _NAMELESS else token.strip()
        words[word] = as_rows(token, tensor, width)
    names = _names(stem, *words) if len(words) == 1 else {}
    return Adapter({}, words, names)


def as_rows(name: str, tensor: np.ndarray, width: int) -> Float[np.ndarray, "n d"]:
    """A word's rows, stored as "d" or "n d"; ValueError unless d is `width`."""
    shape = tensor.shape
    if len(shape) not in (1, 2) or not tensor.size:
        raise ValueError(f"{name} has shape {shape}; expected (d,) or (n, d).")
    if shape[-1] != width:
        model = _MODELS.get(shape[-1])
        theirs = f", as those of {model} do" if model else ""
        raise ValueError(
            f"its vectors have {shape[-1]} numbers{theirs}; this base's have {width}."
        )
    return np.asarray(tensor, np.float32).reshape(-1, width)


def _web_rows(file: File) -> np.ndarray | None:
    """The tensor in a file of A1111's or kohya's layout."""
    if isinstance(file.tree, Mapping):
        stored = file.tree.get("string_to_param")
        if isinstance(stored, Mapping) and len(stored) == 1:
            (tensor,) = stored.values()
            return tensor if isinstance(tensor, np.ndarray) else None
    if file.tensors.keys() == {_WEB_KEY}:
        return file.tensors[_WEB_KEY]
    return None


def _is_word(name: str, tensor: np.ndarray) -> bool:
    """Whether a tensor is a word's rows: no parameter's name, rows of numbers."""
    if _PARAMETER.fullmatch(name) or tensor.dtype.kind in "iub":
        return False
    return tensor.ndim in (1, 2) and tensor.size > 0 and tensor.shape[-1] > 1


def _names(name: str, word: str) -> dict[str, str]:
    """{name: word} if the name is another one that a prompt can use."""
    usable = name not in _NAMELESS and name.lower() != word.lower()
    return {name: word} if usable else {}


FAMILY = Family(kind, read, ("learned_embeds.safetensors", "learned_embeds.bin"))

"""LoRA by cloneofsimo's lora, whose keys number the modules: "unet:0:up".

The numbers follow torch's order of modules in the diffusers of its time (0.10 to 0.14):
the blocks down, then up, then the middle one; attn1, ff, attn2 in a layer. Orders that
later versions have are tried as well: the one in which every shape fits is taken.
"""

import itertools
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from personax.concepts.formats.adapter import Adapter, Change, File
from personax.concepts.formats.lora import lora
from personax.core.tree import flat
from personax.core.typing import Params
from personax.loading.names import torch_shape
from personax.loading.stored import Stored

_KEY = re.compile(r"(unet|text_encoder):(\d+):(up|down)")
_EMBED = "<embed>"  # the metadata's mark of a token's rows
_STAGES = (("down_blocks", "up_blocks", "mid_block"),)
_STAGES += (("down_blocks", "mid_block", "up_blocks"),)
_LAYERS = (("attn1", "ff", "attn2"), ("attn1", "attn2", "ff"))
_ATTENTION = ("to_q", "to_k", "to_v", "to_out/0")
_RESNET = ("conv1", "time_emb_proj", "conv2", "conv_shortcut")
_TEXT = ("k_proj", "v_proj", "q_proj", "out_proj")  # transformers' order


def from_list(path: pathlib.Path, tensors: Sequence[Any]) -> Stored:
    """The tensors of a pickled list, [up, down, up, …], with their keys.

    cloneofsimo's .pt files have one component each; NAME.text_encoder.pt says which.
    """
    component = "text_encoder" if "text_encoder" in path.name else "unet"
    return {
        f"{component}:{i // 2}:{('up', 'down')[i % 2]}": tensor
        for i, tensor in enumerate(tensors)
        if isinstance(tensor, np.ndarray)
    }


def is_numbered(file: File) -> bool:
    """Whether the file's keys number the modules."""
    return any(_KEY.fullmatch(key) for key in file.tensors)


def read(file: File, params: Params) -> Adapter:
    """The updates up down of each numbered module, and the tokens beside them.

    Raises ValueError for tensors that are neither, incomplete pairs, and shapes that
    fit the modules in no order.
    """
    pairs: dict[str, dict[int, dict]] = {"unet": {}, "text_encoder": {}}
    words = {}
    for key, tensor in file.tensors.items():
        match = _KEY.fullmatch(key)
        if match:
            component, number, leaf = match.groups()
            pairs[component].setdefault(int(number), {})[f"lora_{leaf}"] = tensor
        elif file.metadata.get(key) == _EMBED:
            words[key] = tensor.reshape(-1, tensor.shape[-1])
        else:
            raise ValueError(f"{key} is not a key of it; nothing was applied.")
    changes: dict[str, Change] = {}
    leaves = flat(params)
    shapes = {path: torch_shape(path, leaf.shape) for path, leaf in leaves.items()}
    for component, numbered in pairs.items():
        if numbered:
            changes |= _changes(component, numbered, shapes)
    return Adapter(changes, words)


def _changes(
    component: str,
    numbered: Mapping[int, dict],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, Change]:
    if sorted(numbered) != list(range(len(numbered))):
        raise ValueError(f"its {component} numbers {len(numbered)} modules with gaps.")
    pairs = [numbered[i] for i in range(len(numbered))]
    for i, pair in enumerate(pairs):
        if pair.keys() != {"lora_up", "lora_down"}:
            raise ValueError(f"its module {component}:{i} has {', '.join(pair)} alone.")
    for paths in _orders(component, shapes):
        if len(paths) == len(pairs) and all(map(_fits, pairs, map(shapes.get, paths))):
            break
    else:
        raise ValueError(
            f"its {len(pairs)} modules of the {component} fit this base's in no order; "
            "nothing was applied."
        )
    changes = {}
    for path, pair in zip(paths, pairs, strict=True):
        change = lora(dict(pair))
        assert change is not None  # both factors are there
        changes[path] = change
    return changes


def _fits(pair: Mapping, shape: tuple[int, ...] | None) -> bool:
    """Whether up down has the kernel's outputs, and inputs with their window."""
    up, down = pair["lora_up"].shape, pair["lora_down"].shape
    if shape is None or len(up) < 2 or len(down) < 2 or up[1] != down[0]:
        return False
    return up[0] == shape[0] and tuple(down[1:]) == tuple(shape[1:])


def _orders(
    component: str, shapes: Mapping[str, tuple[int, ...]]
) -> Iterator[Sequence[str]]:
    """The kernels' paths in every order that the file may have."""
    if component == "text_encoder":
        layers = _numbers(shapes, "text_encoder/text_model/encoder/layers")
        yield [f"{each}/self_attn/{name}/kernel" for each in layers for name in _TEXT]
        return
    for stages, layer, resnets in itertools.product(_STAGES, _LAYERS, (False, True)):
        modules = []
        for stage in stages:
            root = f"unet/{stage}"
            blocks = [root] if stage == "mid_block" else _numbers(shapes, root)
            for block in blocks:
                modules += _in_block(shapes, block, layer, resnets)
        kernels = (f"{module}/kernel" for module in modules)
        yield [kernel for kernel in kernels if kernel in shapes]


def _in_block(
    shapes: Mapping[str, tuple[int, ...]],
    block: str,
    layer: Sequence[str],
    resnets: bool,
) -> Iterator[str]:
    for attention in _numbers(shapes, f"{block}/attentions"):
        for transformer in _numbers(shapes, f"{attention}/transformer_blocks"):
            for name in layer:
                inner = ("net/0/proj",) if name == "ff" else _ATTENTION
                yield from (f"{transformer}/{name}/{each}" for each in inner)
    if resnets:  # the extended variant, with convolutions
        for resnet in _numbers(shapes, f"{block}/resnets"):
            yield from (f"{resnet}/{each}" for each in _RESNET)


def _numbers(shapes: Mapping[str, tuple[int, ...]], root: str) -> list[str]:
    """The numbered modules right below `root`, in order."""
    inside = (path.removeprefix(f"{root}/") for path in shapes if root + "/" in path)
    found = {name.partition("/")[0] for name in inside}
    numbers = sorted(int(number) for number in found if number.isdigit())
    return [f"{root}/{number}" for number in numbers]

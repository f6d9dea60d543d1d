"""Low-rank updates of a module: LoRA and LoCon, as functions of W."""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

import numpy as np

from personax.concepts.formats.adapter import Change, Weight

# {canonical leaf: array}; a reader pops what it uses.
Leaves = MutableMapping[str, Any]


class Context(NamedTuple):
    """What else says how a module's factors are meant."""

    scale: float | None = None  # alpha / r by a config; replaces the file's alpha
    config: Mapping[str, Any] | None = None  # PEFT's
    name: str = ""  # the module's in the file


def lora(leaves: Leaves, context: Context = Context()) -> Change | None:
    """W + (alpha / r) up mid down, with r the rows of `lora_down`; None for others.

    Hu et al. 2021; a convolution's down has the kernel's shape and r outputs, its up is
    1x1. With a `lora_mid` "r r h w" down is 1x1 as well (LoCon with Tucker's
    decomposition). alpha is r where the file has none.
    Raises ValueError for a pair that is incomplete or does not fit together.
    """
    if not {"lora_down", "lora_up"} & leaves.keys():
        return None
    if not {"lora_down", "lora_up"} <= leaves.keys():
        has = next(iter({"lora_down", "lora_up"} & leaves.keys()))
        raise ValueError(f"it has {has} without its counterpart.")
    down, up = as_float(leaves.pop("lora_down")), as_float(leaves.pop("lora_up"))
    mid = leaves.pop("lora_mid", None)
    rank = len(down) if down.ndim else 0
    inner = (rank, rank) if mid is None else (*np.shape(mid)[1::-1], 0)[:2]
    if up.ndim < 2 or down.ndim < 2 or inner != (rank, up.shape[1]) or not rank:
        raise ValueError(f"its factors {up.shape} and {down.shape} do not fit.")
    factor = take_scale(leaves, context, rank)

    left, right = up.reshape(len(up), -1), down.reshape(rank, -1)

    def delta() -> Weight:
        if mid is None:
            change = left @ right
        else:
            change = np.einsum(
                "op,pqhw,qi->oihw", left, as_float(mid), right, optimize=True
            )
        return factor * change

    return added(delta)


def added(delta: Callable[[], Weight]) -> Change:
    """W plus an array of as many outputs and numbers, in any shape."""

    def change(W: Weight) -> Weight:
        added = delta()
        # A transposed change would have as many numbers, too.
        if added.shape[0] != W.shape[0] or added.size != W.size:
            raise ValueError(f"it has shape {added.shape}.")
        return W + added.reshape(W.shape)

    return change


def constant(array: Any) -> Change:
    """W plus an array."""
    return added(lambda: as_float(array))


def take_scale(leaves: Leaves, context: Context, rank: int) -> float:
    """alpha / rank; 1 where neither the file nor a config gives alpha."""
    alpha = leaves.pop("alpha", None)
    if context.scale is not None:
        return context.scale
    return 1.0 if alpha is None else scalar(alpha) / rank


def scalar(value: Any) -> float:
    """The number in a tensor of one element; ValueError for another size."""
    if np.size(value) != 1:
        raise ValueError(f"its alpha has shape {np.shape(value)}, not one number.")
    return float(np.asarray(value, np.float32).reshape(()))


def as_float(tensor: Any) -> Weight:
    return np.asarray(tensor, np.float32)

"""Paths of a nested dict: select by pattern, overwrite, count, find the nearest."""

import difflib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from personax.core.typing import Params

# Trainable subsets by name; SD 1.5's counts stand beside them.
PRESETS = {
    "kv": r"unet/.*/attn2/to_[kv]/kernel",  # 32 kernels, 19,169,280 numbers
    "cross_attention": r"unet/.*/attn2/.*",  # 43,962,560
    "attention": r"unet/.*/attn[12]/.*",  # 93,536,640
    "unet": r"unet/.*",  # 859,520,964
    "unet_except_cross_attention": r"unet/(?!.*/attn2/).*",  # 815,558,404
    # Without norm2 before cross-attention as well: what a folded null text leaves.
    "unet_without_text": (  # 815,533,444
        r"unet/(?!.*/transformer_blocks/\d+/(attn2|norm2)/).*"
    ),
    "text_embeddings": r"text_encoder/.*/token_embedding/embedding",  # 37,945,344
}


def flat(tree: Params) -> dict[str, Any]:
    """{path: leaf} of a nested dict, paths joined by "/"; in the tree's own order."""
    return traverse_util.flatten_dict(tree, sep="/")


def nest(leaves: Mapping[str, Any]) -> Params:
    """The nested dict of {path: leaf}: the inverse of `flat`."""
    return traverse_util.unflatten_dict(dict(leaves), sep="/")


def select(tree: Params, pattern: str) -> dict[str, Any]:
    """{path: leaf} of the leaves whose whole path matches the regex `pattern`.

    `pattern` may be the name of one of `PRESETS`. Raises ValueError, naming the nearest
    paths, when nothing matches, so that a typo does not silently train nothing.
    """
    leaves = flat(tree)
    regex = PRESETS.get(pattern, pattern)
    try:
        match = re.compile(regex).fullmatch
    except re.error as error:
        raise ValueError(
            f"The pattern {pattern!r} is not a valid regular expression: {error}."
        )
    selected = {path: leaf for path, leaf in leaves.items() if match(path)}
    if not selected:
        presets = ", ".join(PRESETS)
        raise ValueError(
            f"The pattern {pattern!r} matches no parameter. Nearest paths: "
            f"{nearest(regex, leaves)}. Presets: {presets}."
        )
    return selected


def overwrite(
    tree: Params, leaves: Mapping[str, Any], *, resize: bool = False
) -> Params:
    """A copy of `tree` with `leaves` at their paths.

    Raises KeyError for a path that the tree lacks and ValueError for a leaf of another
    shape, unless `resize` is set.
    """
    out = flat(tree)
    for path, leaf in leaves.items():
        if path not in out:
            raise KeyError(f"No parameter {path!r}. Nearest: {nearest(path, out)}.")
        if not resize and leaf.shape != out[path].shape:
            raise ValueError(
                f"{path} has shape {out[path].shape}, the new leaf {leaf.shape}."
            )
        out[path] = leaf
    return nest(out)


def stack(trees: Sequence[Any]) -> Any:
    """Stack trees of one structure: each leaf gains a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def count(tree: Any) -> int:
    """The number of elements in the arrays (or shapes) of a tree."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def nearest(name: str, names: Iterable[str], n: int = 3, prefix: str = "") -> str:
    """The names closest to a mistyped one, for an error message, after a prefix."""
    names = list(names)
    close = difflib.get_close_matches(name, names, n, cutoff=0.3) or names[:n]
    return ", ".join(prefix + each for each in close) or "none exist"

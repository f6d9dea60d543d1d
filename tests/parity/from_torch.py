"""torch's parameters in personax's tree, by the template of `eval_shape(init)`."""

from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
import torch

from personax.core.tree import flat, nest
from personax.core.typing import Params

_TOWERS = ("text_model", "vision_model")


def from_torch(source: torch.nn.Module | Mapping, template: Params) -> Params:
    """The parameters of a torch module or state dict, in the shape of `template`.

    Raises KeyError for a name that one of both lacks and ValueError for another shape.
    `position_ids` are passed over: they are buffers that only count.
    """
    state = source.state_dict() if isinstance(source, torch.nn.Module) else dict(source)
    state = {k: v for k, v in state.items() if not k.endswith("position_ids")}
    state = _with_tower(state, template)
    shapes = flat(template)
    names = {path: _torch_name(path) for path in shapes}
    missing = sorted(set(names.values()) - set(state))
    extra = sorted(set(state) - set(names.values()))
    if missing or extra:
        raise KeyError(f"missing from torch: {missing}; extra in torch: {extra}")
    leaves = {}
    for path, name in names.items():
        leaf = _lay_out(path, state[name].detach().numpy())
        if leaf.shape != shapes[path].shape:
            raise ValueError(f"{path} is {shapes[path].shape}, torch's {leaf.shape}")
        leaves[path] = jnp.asarray(leaf)
    return nest(leaves)


def _with_tower(state: Mapping, template: Params) -> Mapping:
    # Since transformers 5.6 a CLIP tower that was built alone has no prefix of its own.
    (first, *others) = template
    if others or first not in _TOWERS or any(k.startswith(first) for k in state):
        return state
    return {f"{first}.{name}": tensor for name, tensor in state.items()}


def _torch_name(path: str) -> str:
    *module, leaf = path.split("/")
    if leaf in ("kernel", "scale", "embedding"):
        leaf = "weight"
    return ".".join([*module, leaf])


def _lay_out(path: str, array: np.ndarray) -> np.ndarray:
    if not path.endswith("kernel"):
        return array
    # (out, in) to (in, out), OIHW to HWIO.
    return array.T if array.ndim == 2 else array.transpose(2, 3, 1, 0)

"""Published names and layouts to ours: the leaf changes, the module path stays."""

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from personax.core.tree import flat
from personax.core.typing import Key, Params
from personax.loading.stored import Stored

_TORCH_LEAVES = {"kernel": "weight", "scale": "weight", "embedding": "weight"}

# Present in published files; not part of what is computed here.
_IGNORED = {
    "text_encoder": (
        r"(vision_model|visual_projection|text_projection)\..*|logit_scale",
    ),
}
_IGNORED_ANYWHERE = r".*\bposition_ids"

# Names of the autoencoder's attention before diffusers 0.12, as in SD 1.5's files.
_OLD_ATTENTION = {
    "query": "to_q",
    "key": "to_k",
    "value": "to_v",
    "proj_attn": "to_out.0",
}
# A layer of the text encoder.
LAYER = re.compile(r"(?:text_model\.)?encoder\.layers\.(\d+)\..*")
_LISTED = 8


class Match(NamedTuple):
    """A network's tensors in its files, by our paths, and what does not fit."""

    tensors: Stored  # {path: tensor in the file's own layout}
    missing: list[str]
    extra: list[str]
    misshapen: list[str]


@functools.lru_cache(maxsize=8)  # tracing SD 1.5's initialisation takes seconds
def template(
    init: Callable[[Key, Any], Params], config: Any
) -> Mapping[str, jax.ShapeDtypeStruct]:
    """{path: shape} of the parameters that `init` makes of a config."""
    return flat(jax.eval_shape(lambda: init(jax.random.key(0), config)))


def match(
    template: Mapping[str, Any],
    names: Mapping[str, str],
    stored: Stored,
    *,
    label: str = "",
) -> Match:
    """The tensors of a network whose parameters have the shapes of `template`.

    `template` is {path: shape}, `names` {path: name in the file}; `label` prefixes
    the names of tensors that do not fit.
    """
    tensors, missing, misshapen = {}, [], []
    for path, leaf in template.items():
        name = names[path]
        if name not in stored:
            missing.append(label + name)
            continue
        ours = to_layout(path, stored[name], len(leaf.shape))
        if ours.shape != leaf.shape:
            misshapen.append(
                f"{label}{name} {stored[name].shape} instead of "
                f"{torch_shape(path, leaf.shape)}"
            )
        tensors[path] = stored[name]
    used = set(names.values())
    extra = [label + name for name in stored if name not in used]
    return Match(tensors, missing, extra, misshapen)


def report(source: str, matches: Iterable[Match]) -> None:
    """Raise one ValueError naming all that is missing, extra or misshapen, if any."""
    matches = list(matches)
    faults = []
    for kind in ("missing", "extra", "misshapen"):
        names = [name for match in matches for name in getattr(match, kind)]
        if names:
            listed = "; ".join(names[:_LISTED])
            more = f"; and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
            faults.append(f"{len(names)} {kind} ({listed}{more})")
    if faults:
        raise ValueError(f"The tensors of {source} do not fit: {', '.join(faults)}.")


def diffusers_names(
    component: str, template: Mapping[str, Any], stored: Iterable[str], prefix: str = ""
) -> dict[str, str]:
    """{path: name in the file} for diffusers' and transformers' names, old and new."""
    dialect = {_modern(component, name.removeprefix(prefix)): name for name in stored}
    return {
        path: dialect.get(torch_name(path), prefix + torch_name(path))
        for path in template
    }


def without_ignored(component: str, stored: Stored, prefix: str = "") -> Stored:
    """`stored` without tensors that no network here reads."""
    patterns = (_IGNORED_ANYWHERE, *_IGNORED.get(component, ()))
    known = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
    return {
        name: tensor
        for name, tensor in stored.items()
        if not known.fullmatch(name.removeprefix(prefix))
    }


def without_later_layers(
    stored: Stored, count: int, layer: re.Pattern[str], prefix: str = ""
) -> Stored:
    """`stored` without the layers of a text encoder from `count` on.

    A config with fewer layers than the file takes the earlier ones, as diffusers does.
    `layer` matches a layer's names behind the prefix, its number as the first group.
    """

    def is_later(name: str) -> bool:
        found = layer.fullmatch(name.removeprefix(prefix))
        return found is not None and int(found[1]) >= count

    return {name: tensor for name, tensor in stored.items() if not is_later(name)}


def torch_name(path: str) -> str:
    """torch's name for a path: "conv_in/kernel" is "conv_in.weight"."""
    module, _, leaf = path.rpartition("/")
    leaf = _TORCH_LEAVES.get(leaf, leaf)
    return f"{module}/{leaf}".lstrip("/").replace("/", ".")


def to_layout(path: str, tensor: np.ndarray, rank: int) -> np.ndarray:
    """A torch tensor as a view in our layout: kernels (in, out) or HWIO.

    A 1x1 convolution and a linear layer are the same map, stored as either; `rank` is
    that of our kernel.
    """
    if not path.endswith("kernel"):
        return tensor
    if tensor.ndim == 4 and rank == 2 and tensor.shape[2:] == (1, 1):
        tensor = tensor[:, :, 0, 0]
    elif tensor.ndim == 2 and rank == 4:
        tensor = tensor[:, :, None, None]
    return tensor.transpose({2: (1, 0), 4: (2, 3, 1, 0)}.get(tensor.ndim))


def from_layout(path: str, array: np.ndarray) -> np.ndarray:
    """Our parameter as a view in torch's layout: (out, in) or OIHW."""
    if not path.endswith("kernel"):
        return array
    return array.transpose({2: (1, 0), 4: (3, 2, 0, 1)}[array.ndim])


def torch_shape(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """torch's shape of a parameter with our `shape`."""
    if not path.endswith("kernel"):
        return tuple(shape)
    return tuple(shape[i] for i in {2: (1, 0), 4: (3, 2, 0, 1)}[len(shape)])


def _modern(component: str, name: str) -> str:
    """The name in today's diffusers, or transformers up to 5.5, of a tensor's name."""
    if component == "text_encoder" and not name.startswith("text_model."):
        return f"text_model.{name}"  # transformers from 5.6 drops the prefix
    if component == "vae":
        *module, layer, leaf = name.split(".")
        if "attentions" in module and layer in _OLD_ATTENTION:
            return ".".join([*module, _OLD_ATTENTION[layer], leaf])
    return name

"""Modules by the names that other programs give them, in every dialect."""

import re
from collections.abc import Mapping
from typing import NamedTuple

from personax.core.tree import flat, nearest
from personax.core.typing import Params

# {prefix of a key: the component it names}; None: either, as the name decides. A prefix
# is removed once.
_PREFIXES = {
    "lora_unet_": "unet",
    "lora_te_": "text_encoder",
    "lora_te1_": "text_encoder",
    "oft_unet_": "unet",
    "oft_te_": "text_encoder",
    "unet.": "unet",
    "text_encoder.": "text_encoder",
    "lycoris_": None,
    "base_model.model.": None,
    "": None,
}
# diffusers' names of 2023 for the text encoder's projections.
_TEXT_ALIASES = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj"}
_TEXT_ALIASES |= {"to_out": "out_proj"}
_OTHERS = {
    r"lora_te2_|text_encoder_2\.|lora_unet_input_blocks_[478]_1_.*_blocks_[1-9]_": (
        "Stable Diffusion XL"
    ),
    r"(transformer\.|lora_transformer_)|(lora_unet_)?(single|double|joint)_": (
        "a diffusion transformer such as Flux or Stable Diffusion 3"
    ),
}


class Index(NamedTuple):
    """{component: {name with underscores: module's path}} of a base's modules."""

    modules: Mapping[str, Mapping[str, str]]
    paths: frozenset[str]  # of all parameters

    def module(self, name: str) -> str | None:
        """The path of the module that a key's `name`, without its leaf, means."""
        for prefix, component in _PREFIXES.items():
            if not name.startswith(prefix):
                continue
            rest = name.removeprefix(prefix).replace(".processor.", ".")
            rest = rest.replace(".", "_")
            for part in [component] if component else self.modules:
                # Old dialects call the output projection to_out, not to_out.0.
                for spelled in (rest, f"{rest}_0"):
                    if spelled in self.modules[part]:
                        return self.modules[part][spelled]
            if prefix:
                return None
        return None

    def kernel(self, module: str) -> str | None:
        """The path of a module's weight: kernel, scale of a norm, or embedding."""
        paths = (f"{module}/{leaf}" for leaf in ("kernel", "scale", "embedding"))
        return next((path for path in paths if path in self.paths), None)

    def bias(self, module: str) -> str | None:
        path = f"{module}/bias"
        return path if path in self.paths else None

    def missing(self, name: str) -> str:
        """A sentence about a name that no module has."""
        for pattern, model in _OTHERS.items():
            if re.match(pattern, name):
                return f"{name} belongs to {model}, which this base is not."
        for prefix, component in _PREFIXES.items():
            if name.startswith(prefix):
                known = self.modules[component or "unet"]
                rest = name.removeprefix(prefix).replace(".", "_")
                near = nearest(rest, known, 1)
                return f"{name} names no module of this base; nearest: {near}."
        raise AssertionError  # the last prefix is empty


def make_index(params: Params) -> Index:
    """The index of a base's parameters; names are looked up, never split."""
    paths = frozenset(
        path
        for path in flat(params)
        if path.partition("/")[0] in ("unet", "text_encoder")
    )
    modules: dict[str, dict[str, str]] = {"unet": {}, "text_encoder": {}}
    for module in sorted({path.rpartition("/")[0] for path in paths}):
        component, _, rest = module.partition("/")
        name = rest.replace("/", "_")
        modules[component][name] = module
        if component == "text_encoder":
            for spelled in _text_spellings(name):
                modules[component].setdefault(spelled, module)
    return Index(modules, paths)


def _text_spellings(name: str) -> list[str]:
    """The other spellings of a text encoder's module: old names, without a prefix."""
    names = [name]
    for alias, projection in _TEXT_ALIASES.items():
        if name.endswith(f"self_attn_{projection}"):
            names.append(name.removesuffix(projection) + alias)
    return [*names[1:], *(each.removeprefix("text_model_") for each in names)]

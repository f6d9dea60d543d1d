"""Files that name a module and its factors in each key: LoRA, LyCORIS, PEFT's."""

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from personax.concepts.formats import lycoris, numbered
from personax.concepts.formats.adapter import Adapter, Change, Family, File
from personax.concepts.formats.lora import Context, Leaves, lora
from personax.concepts.formats.names import Index, make_index
from personax.core.files import decode_json
from personax.core.typing import Params
from personax.networks.unet import UNetConfig

# Endings of keys, {canonical leaf: pattern}. The dialects write the module first.
_LEAVES = {
    "lora_down": r"\.lora_down\.weight|\.lora_A(\.default)?\.weight"
    r"|\.lora_linear_layer\.down\.weight|[._]lora\.down\.weight",
    "lora_up": r"\.lora_up\.weight|\.lora_B(\.default)?\.weight"
    r"|\.lora_linear_layer\.up\.weight|[._]lora\.up\.weight",
    "lora_mid": r"\.lora_mid\.weight",
    "magnitude": r"\.lora_magnitude_vector(\.default)?(\.weight)?",
    "oft_R": r"\.oft_R(\.default)?\.weight",
    "ia3_l": r"\.ia3_l(\.default)?",
    **{
        leaf: rf"\.{leaf}(\.default)?"
        for leaf in (
            *("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2"),
            *("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b"),
            *("lokr_t2", "diff", "diff_b", "w_norm", "b_norm", "oft_blocks", "rescale"),
            *("dora_scale", "alpha", "on_input", "weight"),
        )
    },
}
_KEY = re.compile(
    "(?P<module>.+?)(?:"
    + "|".join(f"(?P<{leaf}>{pattern})" for leaf, pattern in _LEAVES.items())
    + ")"
)
# What decides that a file is of this family.
_MARK = re.compile(
    r"[._]lora[._](down|up|mid|A|B|linear_layer)\b|^(lora|oft|lycoris)_|[._]hada_w"
    r"|[._]lokr_w|[._](oft_R|ia3_l|oft_blocks)\b"
)
_NAMES = {
    "hada_w": "LoHa",
    "lokr_w": "LoKr",
    "oft_": "OFT",
    "ia3_l": "(IA)^3",
    "on_input": "(IA)^3",
    "lora_": "LoRA",
    "diff": "weight difference",
}

# Asked in order; each takes the leaves of its algorithm and returns how W changes.
ALGORITHMS: tuple[Callable[[Leaves, Context], Change | None], ...] = (
    lora,
    lycoris.loha,
    lycoris.lokr,
    lycoris.diag_oft,
    lycoris.peft_oft,
    lycoris.ia3,
    lycoris.difference,
)


def kind(file: File) -> str | None:
    """What a file of this family looks like; None for others."""
    names = [name for name in file.tensors if _MARK.search(name)]
    if numbered.is_numbered(file):
        return "a LoRA by cloneofsimo's lora"
    if not names:
        return None
    leaves = "\n".join(file.tensors)
    found = [name for mark, name in _NAMES.items() if f".{mark}" in leaves]
    what = f"a {found[0] if found else 'LoRA'} in"
    if file.config is not None or ".lora_A" in leaves:
        return f"{what} PEFT's names"
    if re.search(r"^(lora|oft|lycoris)_", "\n".join(names), re.MULTILINE):
        return f"{what} kohya's names"
    if ".processor." in leaves:
        return f"{what} diffusers' names of 2023"
    return f"{what} diffusers' names"


def read(file: File, params: Params, unet: UNetConfig) -> Adapter:
    """Every tensor of the file as a change of the base's parameters.

    Raises ValueError for a tensor without a place in this base, and for factors that
    are incomplete.
    """
    index = make_index(params)
    if numbered.is_numbered(file):
        return numbered.read(file, params)
    scale_of = _metadata_scale(file)
    changes: dict[str, Change] = {}
    for (name, module), leaves in _group(file, index).items():
        try:
            context = Context(scale_of(name), file.config, name)
            own = _module_changes(index, module, leaves, context)
        except ValueError as error:
            raise ValueError(f"{name}: {error}")
        changes |= own
    return Adapter(changes)


def _group(file: File, index: Index) -> dict[tuple[str, str], dict[str, Any]]:
    """{(a module's name in the file, its path): {leaf: tensor}} of the whole file."""
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    seen: dict[str, str] = {}
    for key, tensor in file.tensors.items():
        match = _KEY.fullmatch(key)
        # MODULE.weight is a factor of (IA)^3 alone.
        lone = match and match["weight"] and f"{match['module']}.on_input"
        if match is None or (lone and lone not in file.tensors):
            raise ValueError(
                f"{key} is not a key of it: expected MODULE.lora_down.weight, "
                "MODULE.lora_up.weight, MODULE.alpha, or another program's or "
                "algorithm's factors; nothing was applied."
            )
        leaf = next(name for name in _LEAVES if match[name] is not None)
        name = match["module"]
        module = index.module(name)
        if module is None:
            raise ValueError(f"{index.missing(name)} Nothing was applied.")
        if seen.setdefault(module, name) != name:
            raise ValueError(f"{name} and {seen[module]} are one module.")
        groups.setdefault((name, module), {})[leaf] = tensor
    return groups


def _module_changes(
    index: Index, module: str, leaves: Leaves, context: Context
) -> dict[str, Change]:
    """{path: change} of a module's kernel and bias; every leaf is used."""
    changes: dict[str, Change] = {}
    names = list(leaves)
    bias, change = index.bias(module), lycoris.bias_difference(leaves, context)
    if change is not None:
        if bias is not None:
            changes[bias] = change
        elif "ia3_l" not in names:  # which scales a bias where there is one
            raise ValueError("it changes a bias, which the base's module lacks.")
    for algorithm in ALGORITHMS:
        change = algorithm(leaves, context)
        if change is not None:
            kernel = index.kernel(module)
            assert kernel is not None  # a module has one
            changes[kernel] = lycoris.dora(change, leaves)
            break
    if leaves or not changes:
        raise ValueError(
            f"it has {', '.join(names)}, of which {', '.join(leaves) or 'all'} have no "
            "meaning together."
        )
    return changes


def _metadata_scale(file: File) -> Callable[[str], float | None]:
    """The alpha / r of a module that PEFT's metadata in the file gives, if any."""
    text, config = file.metadata.get("lora_adapter_metadata"), file.config
    if config is not None:
        prefix = "base_model.model."
        return lambda name: config_scale(config, name.removeprefix(prefix))
    if text is None:
        return lambda name: None
    values = decode_json(text, "its lora_adapter_metadata")
    if not isinstance(values, dict):
        raise ValueError("its lora_adapter_metadata is not a JSON object.")

    def scale_of(name: str) -> float | None:
        component, _, rest = name.partition(".")
        prefix = f"{component}."
        own = {
            key.removeprefix(prefix): value
            for key, value in values.items()
            if key.startswith(prefix)
        }
        return config_scale(own, rest)

    return scale_of


def config_scale(config: Mapping[str, Any], name: str) -> float | None:
    """alpha / r of a module by PEFT's config, with its patterns; None without one.

    alpha / sqrt(r) with `use_rslora`.
    """
    alpha = config.get("lora_alpha", config.get("alpha"))
    rank = config.get("r", config.get("rank"))
    alpha = _by_pattern(config.get("alpha_pattern") or {}, name, alpha)
    rank = _by_pattern(config.get("rank_pattern") or {}, name, rank)
    if not alpha or not rank:
        return None
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _by_pattern(patterns: Mapping[str, Any], name: str, value: Any) -> Any:
    """The value of the first pattern that ends the name, as PEFT matches them."""
    for pattern, own in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return own
    return value


FAMILY = Family(
    kind, read, ("adapter_model.safetensors", "pytorch_lora_weights.safetensors")
)

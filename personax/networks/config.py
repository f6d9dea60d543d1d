"""Strict parsing of a network's published config.json.

No option that would change the numbers is ignored.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

C = TypeVar("C")

# Written by the libraries; not options of a network.
_BOOKKEEPING = frozenset(
    [
        "architectures",
        "dtype",
        "torch_dtype",
        "model_type",
        "transformers_version",
        "initializer_factor",
        "initializer_range",
    ]
)


def read_config(
    cls: type[C],
    values: Mapping[str, Any],
    *,
    neutral: Mapping[str, tuple[Any, ...]],
    ignored: frozenset[str] = frozenset(),
    name: str,
) -> C:
    """The dataclass `cls` of a published config.

    Keys that are fields of `cls` are read. An option in `neutral` must have one of the
    values listed, those computed here; `ignored` ones do not affect the numbers. Any
    other option must be off (None or False).

    Raises ValueError naming all options that are not supported.
    """
    fields = {field.name: field.default for field in dataclasses.fields(cls)}  # type: ignore
    taken, refused = {}, []
    for key, value in values.items():
        if key in fields:
            taken[key] = _as_field(value, fields[key])
        elif key.startswith("_") or key in ignored or key in _BOOKKEEPING:
            continue
        elif not _is_neutral(value, neutral.get(key, (None, False))):
            refused.append(f"{key}={value!r}")
    if refused:
        raise ValueError(f"{name} does not compute {', '.join(refused)}.")
    return cls(**taken)


def _as_field(value: Any, default: Any) -> Any:
    # JSON has lists for tuples, and may write 1.0 as 1.
    if isinstance(value, list):
        return tuple(value)
    if isinstance(default, float) and type(value) is int:
        return float(value)
    return value


def _is_neutral(value: Any, allowed: tuple[Any, ...]) -> bool:
    return any(value == other and type(value) is type(other) for other in allowed)

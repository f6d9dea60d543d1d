"""Strict parsing of a network's published config.json.

No option that would change the numbers is ignored, and every value is checked for its
type and range.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping
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
# Layers are made one by one, so that a huge number of them would not end.
_MOST_LAYERS = 1000
_MOST = 2**31 - 1


def read_config(
    cls: type[C],
    values: Mapping[str, Any],
    *,
    neutral: Mapping[str, tuple[Any, ...]],
    ignored: frozenset[str] = frozenset(),
    signed: frozenset[str] = frozenset(),
    name: str,
) -> C:
    """The dataclass `cls` of a published config.

    Keys that are fields of `cls` are read. A value must have the field's type, and a
    number must be positive: or zero, where that is the default, or any finite number
    for the fields in `signed`. An option in `neutral` must have one of the values
    listed, those computed here, or be a list of them, one per block; `ignored` ones do
    not affect the numbers. Any other option must be off (None or False).

    Raises ValueError naming all options that are not supported, or the first field of
    another type or range.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore
    hints = typing.get_type_hints(cls)
    taken, refused = {}, []
    for key, value in values.items():
        if key in fields:
            least = -math.inf if key in signed else _least(fields[key].default)
            most = _MOST_LAYERS if "layers" in key else _MOST
            kind = _Kind(hints[key], least, most)
            taken[key] = _as_field(value, kind, f"{name}'s {key}")
        elif key.startswith("_") or key in ignored or key in _BOOKKEEPING:
            continue
        elif not _is_neutral(value, neutral.get(key, (None, False))):
            refused.append(f"{key}={value!r}")
    if refused:
        raise ValueError(f"{name} does not compute {', '.join(refused)}.")
    return cls(**taken)


def section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The config of a part of a network, {} without one; ValueError for no object."""
    part = values.get(name)
    if part is not None and not isinstance(part, Mapping):
        raise ValueError(f"{name} is {_shown(part)}; expected an object.")
    return part or {}


def check_divides(
    field: str, count: int, widths: Iterable[int], of: str = "block_out_channels"
) -> None:
    """Raise ValueError unless `count` groups or heads divide each of the widths."""
    widths = tuple(widths)
    if any(width % count for width in widths):
        raise ValueError(f"{field} {count} does not divide each of {of} {widths}.")


class _Kind(typing.NamedTuple):
    """The values that a field may have."""

    hint: Any
    least: int | float
    most: int


def _least(default: Any) -> int | float:
    """The smallest number that a field with this default may be."""
    if isinstance(default, int | float) and default <= 0:
        return default
    return 1 if isinstance(default, int) else math.ulp(0.0)


def _as_field(value: Any, kind: _Kind, label: str) -> Any:
    for hint in _options(kind.hint):
        fits, convert = _reader(kind._replace(hint=hint))
        if fits(value):
            return convert(value)
    expected = " or ".join(_description(kind, o) for o in _options(kind.hint))
    raise ValueError(f"{label} is {_shown(value)}; expected {expected}.")


def _options(hint: Any) -> tuple[Any, ...]:
    union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return typing.get_args(hint) if union else (hint,)


def _reader(kind: _Kind) -> tuple[Callable[[Any], bool], Callable[[Any], Any]]:
    """(whether a JSON value is of the kind, the field's value of one that is)."""
    hint, least, most = kind
    if typing.get_origin(hint) is tuple:
        inner, *rest = typing.get_args(hint)
        fits, convert = _reader(kind._replace(hint=inner))
        length = None if rest == [...] else 1 + len(rest)

        def is_list(value: Any) -> bool:
            # JSON has lists for tuples.
            return (
                isinstance(value, list | tuple)
                and (len(value) > 0 if length is None else len(value) == length)
                and all(map(fits, value))
            )

        return is_list, lambda value: tuple(map(convert, value))
    if hint is float:  # JSON may write 1.0 as 1
        numbers = (int, float)
        return (
            lambda v: type(v) in numbers and math.isfinite(v) and least <= v <= most,
            float,
        )
    if hint is int:
        least = math.ceil(least) if math.isfinite(least) else least
        return lambda v: type(v) is int and least <= v <= most, int
    return lambda v: isinstance(v, hint), lambda v: v


def _description(kind: _Kind, hint: Any) -> str:
    if typing.get_origin(hint) is tuple:
        inner, *rest = typing.get_args(hint)
        length = "" if rest == [...] else f" {1 + len(rest)}"
        one = _description(kind, inner).removeprefix("a ")
        return f"a list of{length} {one.replace('number', 'numbers')}"
    if hint in (int, float):
        whole = "whole " if hint is int else ""
        if kind.least > 0:
            return f"a positive {whole}number" + _limit(kind)
        sign = "" if math.isinf(kind.least) else f" from {kind.least:g}"
        return f"a {whole}number{sign}" + _limit(kind)
    names = {bool: "true or false", str: "a string", types.NoneType: "null"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _limit(kind: _Kind) -> str:
    return f" up to {kind.most}" if kind.most < _MOST else ""


def _shown(value: Any) -> str:
    """A value as JSON writes it, shortened."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_neutral(value: Any, allowed: tuple[Any, ...]) -> bool:
    if any(value == other and type(value) is type(other) for other in allowed):
        return True
    each_block = isinstance(value, list) and len(value) > 0
    return each_block and all(_is_neutral(entry, allowed) for entry in value)

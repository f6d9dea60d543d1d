"""Frozen dataclasses from plain mappings: types, ranges, choices, and unset values.

A config file spells an unset value as "", 0 or (), which keeps the type of its key; a
dataclass has None there. `parse` reads a mapping, `plain` writes it again.
"""

import dataclasses
import functools
import math
import numbers
import operator
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from personax.core.files import expand
from personax.core.tree import nearest

T = TypeVar("T")

# What no config, flag or cache exceeds: a key of JAX has 32 bits of the seed; a side in
# pixels above the last would have attention maps of 10^8 numbers.
LARGEST_SEED = 2**32 - 1
LARGEST_SIDE = 2**14

_UNSET = {str: "", int: 0, float: 0.0, tuple: ()}
_ACCEPTED = {int: numbers.Integral, float: numbers.Real}
_EXPECTED = {
    bool: "True or False",
    int: "an integer",
    float: "a number",
    str: "a string",
    tuple: "a tuple",
}
# "~" or "~name" where a path begins, as in "~/x", "folder:~/x" and "<v1>=~/x".
_HOME = re.compile(r"(?:^|(?<=[:=]))~[\w.-]*(?=/)")
_HOLDS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def option(
    default: Any = dataclasses.MISSING,
    *,
    default_factory: Any = dataclasses.MISSING,
    least: int | float | None = None,
    most: int | float | None = None,
    above: int | float | None = None,
    below: int | float | None = None,
    choices: Sequence[str] | None = None,
    path: bool = False,
) -> Any:
    """A dataclass field with bounds of a number, or the choices of a string.

    `least` and `most` are inclusive, `above` and `below` exclusive; None is always
    valid. They apply to each number of a tuple or a mapping. A `path` may start with
    "~", the home directory, also behind a prefix: "folder:~/pictures". A field without
    a default is required.
    """
    bounds = {">=": least, "<=": most, ">": above, "<": below}
    given = {sign: bound for sign, bound in bounds.items() if bound is not None}
    metadata = {"bounds": given, "choices": choices, "path": path}
    return dataclasses.field(
        default=default, default_factory=default_factory, metadata=metadata
    )


def parse(cls: type[T], values: Mapping[str, Any], path: str = "") -> T:
    """The dataclass `cls` of a mapping, whose keys are some or all of its fields.

    A field is a bool, int, float, str, tuple, mapping, another such dataclass, or one
    of these or None. Integers are accepted as floats and lists as tuples; "", 0 and ()
    become None where the field allows it. `path` is the mapping's own key in the
    config, for messages.

    Raises ValueError for an unknown key, naming the nearest ones, for a required key
    that is missing, and for a value of another type, out of range, not finite or not
    among the choices.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore
    prefix = f"{path}." if path else ""
    for key in values:
        if key not in fields:
            near = nearest(str(key), fields, prefix=prefix)
            raise ValueError(f"Unknown config key '{prefix}{key}'; nearest: {near}.")
    parsed = {}
    for name, field in fields.items():
        if name in values:
            key, kind = f"{prefix}{name}", _kinds(cls)[name]
            parsed[name] = _convert(kind, values[name], key, field.metadata)
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"The config has no key '{prefix}{name}'.")
    return cls(**parsed)


def plain(config: Any) -> dict[str, Any]:
    """The mapping that `parse` reads as `config`; None is spelled "", 0 or ()."""
    kinds = _kinds(type(config))
    return {name: _plain(kind, getattr(config, name)) for name, kind in kinds.items()}


@functools.cache
def _kinds(cls: type) -> dict[str, Any]:
    """{field: its type}, in the order of the fields."""
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _split(kind: Any) -> tuple[Any, bool]:
    """(a type without None, whether None was part of it)."""
    if isinstance(kind, types.UnionType):
        (own,) = (each for each in kind.__args__ if each is not types.NoneType)
        return own, True
    return kind, False


def _convert(kind: Any, value: Any, key: str, metadata: Mapping[str, Any]) -> Any:
    """`value` as the type `kind`; ValueError, see `parse`."""
    kind, optional = _split(kind)
    if optional and value is not False and value in (None, "", 0, (), []):
        return None
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is Any:
        return value
    if dataclasses.is_dataclass(origin):
        if isinstance(value, origin):  # type: ignore[arg-type]
            return value
        if isinstance(value, Mapping):
            return parse(origin, value, key)  # type: ignore[type-var]
    elif origin is tuple:
        if isinstance(value, list | tuple):
            repeated = args[-1] is Ellipsis
            if repeated or len(value) == len(args):
                inner = [args[0]] * len(value) if repeated else args
                each = zip(inner, value, strict=True)
                return tuple(_convert(*pair, key, metadata) for pair in each)
    elif issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            inner = args[1]
            return {
                k: _convert(inner, x, f"{key}.{k}", metadata) for k, x in value.items()
            }
    elif isinstance(value, _ACCEPTED.get(origin, origin)) and (
        origin is bool or not isinstance(value, bool)
    ):
        value = origin(value)
        if metadata.get("path"):
            return _HOME.sub(lambda match: str(expand(match[0])), value)
        choices, bounds = metadata.get("choices"), metadata.get("bounds") or {}
        if choices is not None and value not in choices:
            raise ValueError(f"{key}={value!r}: expected one of {', '.join(choices)}.")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{key}={value}: expected a finite number.")
        if not all(_HOLDS[sign](value, bound) for sign, bound in bounds.items()):
            span = " and ".join(f"{sign} {bound}" for sign, bound in bounds.items())
            raise ValueError(f"{key}={value}: expected a value {span}.")
        return value
    expected = _EXPECTED.get(origin, "a mapping")
    if origin is tuple and args[-1] is not Ellipsis:
        expected = f"a tuple of {len(args)}"
    raise ValueError(f"{key}={value!r}: expected {expected}.")


def _plain(kind: Any, value: Any) -> Any:
    kind, _ = _split(kind)
    if kind is Any:
        return value
    origin = typing.get_origin(kind) or kind
    if value is None:
        return _UNSET[origin]
    if dataclasses.is_dataclass(value):
        return plain(value)
    if isinstance(value, Mapping):
        inner = typing.get_args(kind)[1]
        return {k: _plain(inner, x) for k, x in value.items()}
    return value

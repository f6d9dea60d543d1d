"""Types and ranges of the methods' arguments, checked before a method is made."""

import collections.abc
import dataclasses
import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

from personax.core.config import LARGEST_SEED, option, parse


class Within(NamedTuple):
    """The bounds of a number; see `option`."""

    least: float | None = None
    most: float | None = None
    above: float | None = None


# The ranges that a method's signature names.
Size = Annotated[int, Within(least=1, most=65536)]
SizeOrNone = Annotated[int, Within(least=0, most=65536)]  # 0: none, or all
Index = Annotated[int, Within(least=0, most=65536)]
Steps = Annotated[int, Within(least=1, most=1000)]
Seed = Annotated[int, Within(least=0, most=LARGEST_SEED)]
Share = Annotated[float, Within(least=0, most=1)]
Weight = Annotated[float, Within(least=0, most=1e6)]
Positive = Annotated[float, Within(above=0, most=1e6)]
Number = Annotated[float, Within(least=-1e6, most=1e6)]


def checked(recipe: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a recipe, which has all of them, as the types it declares.

    Raises ValueError, with the argument's name, for another type and for a number that
    is not finite or out of range.
    """
    parsed = parse(fields(recipe), arguments, "method_args")
    return {name: getattr(parsed, name) for name in arguments}


@functools.cache
def fields(recipe: Callable[..., Any]) -> type:
    """The dataclass of a recipe's arguments, with their bounds."""
    parameters = inspect.signature(recipe).parameters.values()
    return dataclasses.make_dataclass(
        recipe.__name__,
        [(each.name, _type(each.annotation), _field(each)) for each in parameters],
        frozen=True,
    )


def _field(parameter: inspect.Parameter) -> Any:
    return option(parameter.default, **_bounds(parameter.annotation)._asdict())


def _bounds(annotation: Any) -> Within:
    """The bounds of the numbers in an annotation."""
    if typing.get_origin(annotation) is Annotated:
        return annotation.__metadata__[0]
    inner = map(_bounds, typing.get_args(annotation))
    return next((bounds for bounds in inner if any(bounds)), Within())


def _type(annotation: Any) -> Any:
    """An annotation without bounds. Sequences are given as lists or tuples."""
    if annotation is inspect.Parameter.empty:
        return Any
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return args[0]
    if origin is collections.abc.Sequence:
        return tuple[_type(args[0]), ...]
    if origin in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, map(_type, args))
    return annotation

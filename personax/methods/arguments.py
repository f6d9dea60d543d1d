"""Types and ranges of the methods' arguments, checked before a method is made."""

import collections.abc
import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable, Mapping
from typing import Any

from personax.core.config import option, parse

# Of the numbers among the arguments of all methods; see `option`. An argument of a new
# method needs a line here: a test asks for it.
_BOUNDS: dict[str, dict[str, Any]] = {
    "alpha": {"above": 0, "most": 1e6},
    "beta": {"least": -1e3, "most": 1e3},
    "blocks": {"least": 1, "most": 65536},
    "bypass": {"least": 0, "most": 1e3},
    "channels": {"least": 1, "most": 65536},
    "decay": {"least": 0, "most": 1},
    "dropout": {"least": 0, "most": 1},
    "eps": {"least": 0, "most": 1e6},
    "inference_beta": {"least": -1e3, "most": 1e3},
    "inference_tau": {"above": 0, "most": 1e6},
    "latents": {"least": 1, "most": 1e6},
    "min_snr": {"least": 0, "most": 1e6},
    "offset_noise": {"least": 0, "most": 100},
    "rank": {"least": 0, "most": 65536},
    "ridge": {"least": 0, "most": 1e6},
    "scale": {"above": 0, "most": 1e6},
    "seed": {"least": 0, "most": 2**32 - 1},
    "semantic_weight": {"least": 0, "most": 1e6},
    "speak": {"least": 0, "most": 65536},
    "stages": {"least": 1, "most": 1000},
    "steps": {"least": 1, "most": 1000},
    "tau": {"above": 0, "most": 1e6},
    "truncate": {"least": 0, "most": 65536},
    "unmix_weight": {"least": 0, "most": 1e6},
    "vectors": {"least": 1, "most": 1024},
}


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


def _type(annotation: Any) -> Any:
    """Sequences are given as lists or tuples."""
    if annotation is inspect.Parameter.empty:
        return Any
    if typing.get_origin(annotation) is collections.abc.Sequence:
        return tuple[(*typing.get_args(annotation), ...)]
    return annotation


def _field(parameter: inspect.Parameter) -> Any:
    bounds: dict[str, Any] = _BOUNDS.get(parameter.name, {})
    # SVDiff's `vectors` are a choice, Infusion's a number.
    own = {} if isinstance(parameter.default, bool) else bounds
    return option(parameter.default, **own)

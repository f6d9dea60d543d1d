"""The methods by name; adding one is a line here."""

from collections.abc import Callable

from personax.methods.base import Concept, Method, Part, bind, init
from personax.methods.custom_diffusion import custom_diffusion

METHODS: dict[str, Callable[..., Method]] = {"custom_diffusion": custom_diffusion}

__all__ = [
    "METHODS",
    "Concept",
    "Method",
    "Part",
    "bind",
    "custom_diffusion",
    "init",
    "make",
]


def make(name: str, **arguments) -> Method:
    """The method of that name; ValueError names those that exist."""
    if name not in METHODS:
        raise ValueError(f"No method {name!r}; there are: {', '.join(METHODS)}.")
    return METHODS[name](**arguments)

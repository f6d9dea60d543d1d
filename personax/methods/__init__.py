"""The methods by name; adding one is a line here."""

from collections.abc import Callable

from personax.methods.arguments import checked
from personax.methods.class_diffusion import class_diffusion
from personax.methods.concept_centric import concept_centric
from personax.methods.controlnet import controlnet
from personax.methods.custom_diffusion import custom_diffusion
from personax.methods.dreambooth import dreambooth
from personax.methods.extended_textual_inversion import extended_textual_inversion
from personax.methods.infusion import infusion
from personax.methods.lora import lora
from personax.methods.neti import neti
from personax.methods.oft import oft
from personax.methods.parts.base import (
    Concept,
    Method,
    Part,
    after,
    argument_names,
    bind,
    init,
    prepare,
    saved,
)
from personax.methods.perfusion import perfusion
from personax.methods.prospect import prospect
from personax.methods.svdiff import svdiff
from personax.methods.textual_inversion import textual_inversion

METHODS: dict[str, Callable[..., Method]] = {
    "custom_diffusion": custom_diffusion,
    "class_diffusion": class_diffusion,
    "dreambooth": dreambooth,
    "textual_inversion": textual_inversion,
    "extended_textual_inversion": extended_textual_inversion,
    "prospect": prospect,
    "neti": neti,
    "lora": lora,
    "oft": oft,
    "svdiff": svdiff,
    "perfusion": perfusion,
    "infusion": infusion,
    "concept_centric": concept_centric,
    "controlnet": controlnet,
}

# {method: {former name of an argument: its name}}. Configs and saved concepts may use
# either.
RENAMED = {"dreambooth": {"fresh": "from_scratch"}}

__all__ = [
    "METHODS",
    "Concept",
    "Method",
    "Part",
    "after",
    "bind",
    "init",
    "make",
    "prepare",
    "saved",
]


def make(name: str, **arguments) -> Method:
    """The method `name` with these arguments, which may have their former names.

    Raises ValueError for an unknown method and for a value of another type or out of
    range, and TypeError for an unknown argument.
    """
    if name not in METHODS:
        raise ValueError(
            f"Unknown method {name!r}; expected one of {', '.join(METHODS)}."
        )
    names = argument_names(METHODS[name])
    for former, current in RENAMED.get(name, {}).items():
        if former in arguments and current in arguments:
            raise TypeError(f"The method {name} got {current!r} also as {former!r}.")
        if former in arguments:
            arguments[current] = arguments.pop(former)
    unknown = [argument for argument in arguments if argument not in names]
    if unknown:
        raise TypeError(
            f"The method {name} has no argument {unknown[0]!r}; expected one of "
            f"{', '.join(names)}."
        )
    return METHODS[name](**checked(METHODS[name], arguments))

"""The methods by name; adding one is a line here."""

import inspect
from collections.abc import Callable

from personax.methods import losses
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
    """The method of that name.

    ValueError names the methods that exist, TypeError the arguments that one takes.
    """
    if name not in METHODS:
        raise ValueError(f"No method {name!r}; there are: {', '.join(METHODS)}.")
    known = _arguments(METHODS[name])
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        raise TypeError(
            f"The method {name} takes no {unknown[0]!r}; it takes: {', '.join(known)}."
        )
    return METHODS[name](**arguments)


# Where a recipe's `**name` goes.
_PASSED_ON = {"custom": custom_diffusion, "denoising": losses.denoising}


def _arguments(recipe: Callable[..., object]) -> list[str]:
    """The names of a recipe's arguments, those that it passes on included."""
    names = []
    for parameter in inspect.signature(recipe).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            names += _arguments(_PASSED_ON[parameter.name])
        else:
            names.append(parameter.name)
    return names

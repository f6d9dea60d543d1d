"""From words to guidance terms: the command line's short language for them."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from personax.denoiser import Prompt, encode
from personax.diffusion.guidance import Term, complete
from personax.model import Model
from personax.networks.tokenizer import tokenize, unknown_placeholders, where


class Wish(NamedTuple):
    """A term before it is encoded."""

    prompt: str
    weight: float
    model: str = "base"

    def __str__(self) -> str:
        model = "" if self.model == "base" else f"{self.model}@"
        return f"{model}{self.weight:g}:{self.prompt}"


def parse(text: str) -> Wish:
    """The wish in "[MODEL@]WEIGHT:PROMPT", split at the first colon.

    The prompt may be empty. Raises ValueError for another form.

    >>> parse("face@1.5:wearing glasses: round ones")
    Wish(prompt='wearing glasses: round ones', weight=1.5, model='face')
    """
    found = re.fullmatch(r"(?:([^@:]+)@)?([^@:]+):(.*)", text, re.DOTALL)
    try:
        model, weight, prompt = found.groups()  # type: ignore[union-attr]
        return Wish(prompt.strip(), float(weight), model or "base")
    except (AttributeError, ValueError):
        raise ValueError(
            f'The term {text!r} is not of the form "[MODEL@]WEIGHT:PROMPT", '
            'such as "3:a dog" or "face@1.5:".'
        )


def check(
    models: Mapping[str, Model], wishes: Sequence[Wish], unconditional: str = "base"
) -> None:
    """ValueError for a model that is not there or a placeholder unknown to it."""
    for wish in (*wishes, Wish("", 0.0, unconditional)):
        if wish.model not in models:
            raise ValueError(
                f"The term {str(wish)!r} names no model that there is: "
                f"{', '.join(models)}."
            )
        tokenizer = models[wish.model].tokenizer
        unknown = unknown_placeholders(tokenizer, [wish.prompt])
        if unknown:
            known = ", ".join(other.word for other in tokenizer.placeholders)
            raise ValueError(
                f"No concept is called {unknown[0]} in {wish.prompt!r}; "
                + (f"there is: {known}." if known else "give one with --concept DIR.")
            )


def to_terms(
    models: Mapping[str, Model],
    wishes: Sequence[Wish],
    *,
    negative: str = "",
    unconditional: str = "base",
) -> list[Term]:
    """The encoded terms, the unconditional one first with the rest of the weight.

    `negative` stands in the place of the empty prompt; a negative prompt with a weight
    of its own is a wish with a negative weight.
    """
    terms = [
        Term(to_prompt(models[model], prompt), jnp.asarray(weight, jnp.float32), model)
        for prompt, weight, model in wishes
    ]
    null = to_prompt(models[unconditional], negative, marked=False)
    return complete(terms, null, unconditional)


def to_prompt(model: Model, prompt: str, *, marked: bool = True) -> Prompt:
    """The encoded prompt, one row; `marked` where it speaks of the model's concepts.

    The unconditional term marks none, so that no residual is added there.
    """
    ids, marks = jnp.asarray(tokenize(model.tokenizer, [prompt])), None
    if marked and model.concepts:
        handles = [concept.handle for concept in model.concepts]
        marks = jnp.asarray(where(model.tokenizer, [prompt], handles))
    return _compiled(model.denoiser, ids, marks)


# One program for all prompts; layer by layer, the first would take seconds.
_compiled = jax.jit(encode)

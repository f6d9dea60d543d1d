"""From words to guidance terms: the command line's short language for them."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from personax.concepts.bind import Model
from personax.diffusion.denoiser import Prompt, encode
from personax.diffusion.guidance import Term, complete
from personax.diffusion.guidance_schedule import Schedule, parse_weight, weight_values
from personax.diffusion.solvers import Grid
from personax.diffusion.solvers.grid import steps_of
from personax.networks.tokenizer import concept_mask, tokenize, unknown_placeholders


class TermSpec(NamedTuple):
    """A term before it is encoded."""

    prompt: str
    weight: float | Schedule
    model: str = "base"

    def __str__(self) -> str:
        model = "" if self.model == "base" else f"{self.model}@"
        weight = self.weight
        weight = weight if isinstance(weight, Schedule) else f"{weight:g}"
        return f"{model}{weight}:{self.prompt}"


def parse(text: str) -> TermSpec:
    """The wish in "[MODEL@]WEIGHT:PROMPT", split at the first colon.

    The prompt may be empty, the weight change from step to step (`parse_weight`).
    Raises ValueError for another form.

    >>> parse("face@1.5:wearing glasses: round ones")
    Wish(prompt='wearing glasses: round ones', weight=1.5, model='face')
    """
    found = re.fullmatch(r"(?:([^@:]+)@)?([^@:]+):(.*)", text, re.DOTALL)
    if not found:
        raise ValueError(_not_of_the_form(text))
    model, weight, prompt = found.groups()
    try:
        return TermSpec(prompt.strip(), parse_weight(weight), model or "base")
    except ValueError as error:
        raise ValueError(f"{_not_of_the_form(text)} {error}")


def _not_of_the_form(text: str) -> str:
    return (
        f'The term {text!r} is not of the form "[MODEL@]WEIGHT:PROMPT", such as '
        '"3:a dog" or "face@1.5:".'
    )


def check(
    models: Mapping[str, Model],
    term_specs: Sequence[TermSpec],
    unconditional: str = "base",
) -> None:
    """ValueError for a model that is not there or a placeholder unknown to it."""
    for term_spec in (*term_specs, TermSpec("", 0.0, unconditional)):
        if term_spec.model not in models:
            raise ValueError(
                f"The term {str(term_spec)!r} names no model that there is: "
                f"{', '.join(models)}."
            )
        tokenizer = models[term_spec.model].tokenizer
        unknown = unknown_placeholders(tokenizer, [term_spec.prompt])
        if unknown:
            known = ", ".join(other.word for other in tokenizer.placeholders)
            raise ValueError(
                f"No concept is called {unknown[0]} in {term_spec.prompt!r}; "
                + (f"there is: {known}." if known else "give one with --concept DIR.")
            )


def to_terms(
    models: Mapping[str, Model],
    term_specs: Sequence[TermSpec],
    *,
    negative: str = "",
    unconditional: str = "base",
    grid: Grid | None = None,
) -> list[Term]:
    """The encoded terms, the unconditional one first with the rest of the weight.

    `negative` stands in the place of the empty prompt; a negative prompt with a weight
    of its own is a wish with a negative weight. Weights that change from step to step
    need the `grid` of the steps. Terms of one model under two names say the first.
    """
    if grid is None and any(
        isinstance(term_spec.weight, Schedule) for term_spec in term_specs
    ):
        raise ValueError("A weight that changes from step to step needs their grid.")
    steps = np.zeros(1, int) if grid is None else steps_of(grid)
    terms = [
        Term(
            to_prompt(models[term_spec.model], term_spec.prompt),
            weight_values(term_spec.weight, steps),
            _first_name(models, term_spec.model),
        )
        for term_spec in term_specs
    ]
    null = to_prompt(models[unconditional], negative, marked=False)
    return complete(terms, null, _first_name(models, unconditional))


def _first_name(models: Mapping[str, Model], name: str) -> str:
    """Of the names of that very model the first: its terms share a batched call."""
    return next(other for other in models if models[other] is models[name])


def to_prompt(model: Model, prompt: str, *, marked: bool = True) -> Prompt:
    """The encoded prompt, one row; `marked` where it speaks of the model's concepts.

    The unconditional term marks none, so that no residual is added there.
    """
    ids, marks = jnp.asarray(tokenize(model.tokenizer, [prompt])), None
    if marked and model.concepts:
        handles = [concept.handle for concept in model.concepts]
        marks = jnp.asarray(concept_mask(model.tokenizer, [prompt], handles))
    return _compiled(model.denoiser, ids, marks)


# One program for all prompts; layer by layer, the first would take seconds.
_compiled = jax.jit(encode)

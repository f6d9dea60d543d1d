"""Guidance terms of prompts: their specification, checks and encoding."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from personax.concepts.bind import Model
from personax.diffusion.denoiser import Prompt
from personax.diffusion.encode import encode_prompts
from personax.diffusion.guidance import Term, complete
from personax.diffusion.guidance_schedule import Schedule, weight_values
from personax.diffusion.solvers import Grid
from personax.diffusion.solvers.grid import steps_of
from personax.networks.tokenizer import concept_mask, tokenize
from personax.sampling import concept_words

Weights = tuple[float, ...]  # one for each axis


class TermSpec(NamedTuple):
    """A guidance term before its prompt is encoded: [MODEL@]WEIGHT:PROMPT."""

    prompt: str
    weight: float | Schedule
    model: str = "base"

    def __str__(self) -> str:
        model = "" if self.model == "base" else f"{self.model}@"
        weight = self.weight
        weight = weight if isinstance(weight, Schedule) else f"{weight:g}"
        return f"{model}{weight}:{self.prompt}"


class Axis(NamedTuple):
    """A term, and the weights to try; see `grammar.parse_axis`."""

    prompt: str
    model: str
    values: Weights

    def term_spec(self, weight: float) -> TermSpec:
        return TermSpec(self.prompt, weight, self.model)

    def __str__(self) -> str:
        """The term without its weight."""
        return self.prompt if self.model == "base" else f"{self.model}@:{self.prompt}"


def check(
    models: Mapping[str, Model],
    term_specs: Sequence[TermSpec],
    unconditional: str = "base",
    negative: str = "",
) -> None:
    """Raise ValueError for an unknown model or an unknown placeholder in a prompt."""
    for term_spec in (*term_specs, TermSpec(negative, 0.0, unconditional)):
        if term_spec.model not in models:
            raise ValueError(
                f"Unknown model {term_spec.model!r} in the term {str(term_spec)!r}; "
                f"expected one of {', '.join(models)}."
            )
        concept_words.check(models[term_spec.model], term_spec.prompt)


def to_terms(
    models: Mapping[str, Model],
    term_specs: Sequence[TermSpec],
    *,
    negative: str = "",
    unconditional: str = "base",
    grid: Grid | None = None,
) -> list[Term]:
    """The encoded terms, after the unconditional one, which has weight 1 - sum(w).

    `negative` replaces the unconditional term's empty prompt; a negative prompt with
    its own weight is a term with a negative weight. Weights that change over the steps
    need the `grid`. Two names of one model become the first, so that its terms share a
    batched call. A UNet with distilled guidance has one term, whose weight is an input
    of the UNet. Raises ValueError for further terms or a negative prompt with it.
    """
    used = [term_spec.model for term_spec in term_specs]
    if any(_is_distilled(models[name]) for name in (*used, unconditional)):
        return [_distilled_term(models, term_specs, negative)]
    if grid is None and any(
        isinstance(term_spec.weight, Schedule) for term_spec in term_specs
    ):
        raise ValueError("A weight that changes over the steps needs a grid.")
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


def _is_distilled(model: Model) -> bool:
    return model.denoiser.spec.unet.time_cond_proj_dim is not None


def _distilled_term(
    models: Mapping[str, Model], term_specs: Sequence[TermSpec], negative: str
) -> Term:
    first, *more = term_specs
    if more or negative or not _is_distilled(models[first.model]):
        raise ValueError(
            "A UNet with distilled guidance (time_cond_proj_dim) takes one prompt and "
            "its guidance weight, no further term and no negative prompt."
        )
    if isinstance(first.weight, Schedule):
        raise ValueError(
            "A UNet with distilled guidance (time_cond_proj_dim) takes one weight for "
            f"all steps, not {first.weight}."
        )
    prompt = to_prompt(models[first.model], first.prompt)
    prompt = prompt._replace(guidance=jnp.full((1,), first.weight, jnp.float32))
    return Term(prompt, jnp.ones(()), _first_name(models, first.model))


def _first_name(models: Mapping[str, Model], name: str) -> str:
    """The first name of this model."""
    return next(other for other in models if models[other] is models[name])


def to_prompt(model: Model, *prompts: str, marked: bool = True) -> Prompt:
    """The encoded prompts, a row each, with a mask of the model's concepts if `marked`.

    The unconditional term has no mask, so that no residual is added to it.
    """
    ids, mask = jnp.asarray(tokenize(model.tokenizer, list(prompts))), None
    if marked and model.concepts:
        handles = [concept.handle for concept in model.concepts]
        mask = jnp.asarray(concept_mask(model.tokenizer, prompts, handles))
    return encode_prompts(model.denoiser, ids, mask)

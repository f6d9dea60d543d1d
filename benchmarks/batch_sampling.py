"""Batches of pictures from many prompts and several models."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from personax.concepts.bind import Model
from personax.core.progress import Progress
from personax.diffusion.denoiser import Prompt
from personax.diffusion.guidance import Term, complete
from personax.diffusion.solvers import SOLVERS
from personax.loading import Base
from personax.sampling import prompt_terms
from personax.sampling.sampler import make_sampler

Pictures = UInt8[np.ndarray, "n height width 3"]


class BatchTerm(NamedTuple):
    """A guidance term: one prompt for all pictures, or one each."""

    prompt: str | Sequence[str]
    weight: float
    model: str = "base"
    hint: Float[np.ndarray, "n height width c"] | None = None  # of each picture


# `(models, terms, number of pictures, seed) -> pictures`
Drawer = Callable[[Mapping[str, Model], Sequence[BatchTerm], int, int], Pictures]


def make_drawer(
    base: Base, *, steps: int, solver: str = "dpmpp_2m", batch: int = 50
) -> Drawer:
    """A function that samples pictures and decodes them with the base's autoencoder.

    The remaining weight goes to the unconditional term of the base, or of the only
    model. Each set of models and number of terms compiles once.
    """
    sampler = make_sampler(base.spec, base.params["vae"], SOLVERS[solver], steps)

    def drawer(models, terms, count, seed):
        encoded = [_encoded(models[term.model], term.prompt) for term in terms]
        unconditional = "base" if "base" in models else next(iter(models))
        null = prompt_terms.to_prompt(models[unconditional], "", marked=False)
        parts = []
        for first in Progress(range(0, count, batch), "drawing", leave=False):
            size = min(batch, count)  # all batches of one shape
            indices = np.arange(first, first + size)
            rows = [
                _term(term, prompt, indices)
                for term, prompt in zip(terms, encoded, strict=True)
            ]
            rows = complete(rows, null, unconditional)
            key = jax.random.key(seed)
            drawn = sampler.draw(models, rows, key, jnp.asarray(indices))
            parts.append(np.asarray(drawn))
        return np.concatenate(parts)[:count]

    return drawer


def _encoded(model: Model, prompt: str | Sequence[str]) -> list[Prompt]:
    """The prompts as rows; equal prompts are encoded once."""
    if isinstance(prompt, str):
        return [prompt_terms.to_prompt(model, prompt)]
    by_text = {
        text: prompt_terms.to_prompt(model, text) for text in dict.fromkeys(prompt)
    }
    return [by_text[text] for text in prompt]


def _term(term: BatchTerm, encoded: Sequence[Prompt], indices: np.ndarray) -> Term:
    prompt, weight = _rows(encoded, indices), jnp.float32(term.weight)
    if term.hint is None:
        return Term(prompt, weight, term.model)
    hint = jnp.asarray(term.hint[indices % len(term.hint)])
    return Term(prompt, weight, term.model, hint=hint)


def _rows(encoded: Sequence[Prompt], indices: np.ndarray) -> Prompt:
    if len(encoded) == 1:
        return encoded[0]
    rows = [encoded[int(i) % len(encoded)] for i in indices]
    axis = {"text": 0, "concept_mask": 1, "ids": 0, "guidance": 0}
    return Prompt(
        **{
            name: None
            if getattr(rows[0], name) is None
            else jnp.concatenate([getattr(row, name) for row in rows], axis[name])
            for name in axis
        }
    )

"""Many pictures of many prompts from several models, batch by batch."""

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


class Ask(NamedTuple):
    """A guidance term: one prompt for all pictures, or one each."""

    prompt: str | Sequence[str]
    weight: float
    model: str = "base"
    hint: Float[np.ndarray, "n height width c"] | None = None  # of each picture


# (models, asks, number of pictures, seed) to the pictures.
Drawer = Callable[[Mapping[str, Model], Sequence[Ask], int, int], Pictures]


def make_drawer(
    base: Base, *, steps: int, solver: str = "dpmpp_2m", batch: int = 50
) -> Drawer:
    """A function that draws with the base's autoencoder, the rest of the weight on "".

    The unconditional term is the base's, or the only model's where there is one. One
    compilation for each set of models and number of terms.
    """
    sampler = make_sampler(base.spec, base.params["vae"], SOLVERS[solver], steps)

    def drawer(models, asks, count, seed):
        encoded = [_encoded(models[ask.model], ask.prompt) for ask in asks]
        unconditional = "base" if "base" in models else next(iter(models))
        null = prompt_terms.to_prompt(models[unconditional], "", marked=False)
        found = []
        for first in Progress(range(0, count, batch), "drawing", leave=False):
            size = min(batch, count)  # all batches of one shape
            indices = np.arange(first, first + size)
            terms = [
                _term(ask, prompt, indices)
                for ask, prompt in zip(asks, encoded, strict=True)
            ]
            terms = complete(terms, null, unconditional)
            key = jax.random.key(seed)
            drawn = sampler.draw(models, terms, key, jnp.asarray(indices))
            found.append(np.asarray(drawn))
        return np.concatenate(found)[:count]

    return drawer


def _encoded(model: Model, prompt: str | Sequence[str]) -> list[Prompt]:
    """The prompts as rows, each different one encoded once."""
    if isinstance(prompt, str):
        return [prompt_terms.to_prompt(model, prompt)]
    known = {
        text: prompt_terms.to_prompt(model, text) for text in dict.fromkeys(prompt)
    }
    return [known[text] for text in prompt]


def _term(ask: Ask, encoded: Sequence[Prompt], indices: np.ndarray) -> Term:
    prompt, weight = _rows(encoded, indices), jnp.float32(ask.weight)
    if ask.hint is None:
        return Term(prompt, weight, ask.model)
    hint = jnp.asarray(ask.hint[indices % len(ask.hint)])
    return Term(prompt, weight, ask.model, hint=hint)


def _rows(encoded: Sequence[Prompt], indices: np.ndarray) -> Prompt:
    if len(encoded) == 1:
        return encoded[0]
    rows = [encoded[int(i) % len(encoded)] for i in indices]
    axis = {"text": 0, "where": 1, "ids": 0}
    return Prompt(
        **{
            name: None
            if getattr(rows[0], name) is None
            else jnp.concatenate([getattr(row, name) for row in rows], axis[name])
            for name in axis
        }
    )

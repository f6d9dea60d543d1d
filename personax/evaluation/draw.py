"""Pictures of many prompts at once, each by a seed and a number of its own."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from personax.concepts.bind import Model, from_base
from personax.core.tree import stack
from personax.diffusion.solvers import SOLVERS, ddim
from personax.evaluation.results import Shot
from personax.loading import Base
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec, parse
from personax.sampling.sampler import make_sampler


class Drawn(NamedTuple):
    """Pictures in the order of their shots, and the latents they were decoded from."""

    shots: tuple[Shot, ...]
    pixels: UInt8[np.ndarray, "n height width 3"]
    latents: Float[np.ndarray, "n h w c"] | None  # as the sampler leaves them: scaled


# `(model, [(prompt, seed), …], images, terms) -> Drawn`
Draw = Callable[..., Drawn]

CONCEPT = "concept"  # what terms call the model; the base is "base"


def make_draw(base: Base, settings: Any) -> Draw:
    """A function that draws `images` pictures of each prompt with its seed.

    Picture i of a seed is the one that `personax.sample --seed` draws as its i-th, but
    for the order of summation. `settings` are a config's `draw`: solver, steps,
    guidance, eta and how many pictures at a time. Without `terms` the model is asked
    each prompt with that guidance; they are guidances beside the base's unconditional
    one, as `personax.sample --term` has them, "concept@1.5:" of the model or "2.5:{}"
    of the base, {} the prompt. Raises ValueError for a solver that does not exist, and
    for an eta that it does not have.
    """
    if settings.solver not in SOLVERS:
        raise ValueError(
            f"There is no solver {settings.solver!r}; there are {', '.join(SOLVERS)}."
        )
    if settings.eta and settings.solver != "ddim":
        raise ValueError(f"draw.eta is DDIM's; the solver is {settings.solver!r}.")
    solver = ddim(settings.eta) if settings.eta else SOLVERS[settings.solver]
    sampler = make_sampler(base.spec, base.params["vae"], solver, settings.steps)
    plain = from_base(base)

    def draw(
        model: Model,
        asked: Sequence[tuple[str, int]],
        images: int,
        terms: Sequence[str] = (),
    ) -> Drawn:
        models = {"base": plain, CONCEPT: model} if terms else {"base": model}
        at_once = max(1, settings.batch // images)
        # All batches are as large as the first: one compilation for all.
        padded = [*asked, *[asked[-1]] * (-len(asked) % at_once)]
        found = []
        for i in range(0, len(padded), at_once):
            batch = padded[i : i + at_once]
            term_specs = [
                [parse(term.replace("{}", text)) for term in terms]
                or [TermSpec(text, settings.guidance)]
                for text, _ in batch
            ]
            encoded = stack(
                [prompt_terms.to_terms(models, each) for each in term_specs]
            )
            keys = jax.random.wrap_key_data(
                jnp.stack([jax.random.key_data(jax.random.key(s)) for _, s in batch])
            )
            x = sampler.latents_of_prompts(models, encoded, keys, jnp.arange(images))
            found.append(x.reshape(-1, *x.shape[2:]))
        latents = jnp.concatenate(found)[: len(asked) * images]
        pixels = [
            jax.device_get(sampler.decode(latents[i : i + settings.batch]))
            for i in range(0, len(latents), settings.batch)
        ]
        shots = tuple(
            Shot(text, seed, i) for text, seed in asked for i in range(images)
        )
        return Drawn(shots, np.concatenate(pixels), np.asarray(latents))

    return draw

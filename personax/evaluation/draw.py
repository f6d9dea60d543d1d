"""Batched sampling of many prompts, each with its own seed."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from personax.concepts.bind import Model, from_base
from personax.core.tree import stack
from personax.diffusion.solvers import SOLVERS, ddim
from personax.evaluation.config import DrawConfig
from personax.loading import Base
from personax.sampling import prompt_terms
from personax.sampling.grammar import parse_term
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import make_sampler


class Drawn(NamedTuple):
    """Pictures, those of one prompt adjacent, and their latents."""

    pixels: UInt8[np.ndarray, "n height width 3"]
    latents: Float[np.ndarray, "n h w c"] | None  # scaled, as the sampler returns them
    failed: tuple[int, ...] = ()  # the numbers of pictures that are not finite


# `(model, [(prompt, seed), …], images, terms) -> Drawn`
Draw = Callable[..., Drawn]

CONCEPT = "concept"  # the model's name in terms; the base's is "base"


def make_draw(base: Base, settings: DrawConfig) -> Draw:
    """Return a function that draws `images` pictures of each (prompt, seed).

    Picture i of a seed equals the i-th picture of `personax.sample --seed`, up to the
    order of summation.

    Without `terms`, each prompt is sampled with classifier-free guidance. Otherwise
    `terms` are guidance terms in the syntax of `personax.sample --term`, with {} for
    the prompt: "concept@1.5:" for the model, "2.5:{}" for the base; the unconditional
    term is the base's.
    """
    solver = ddim(settings.eta) if settings.eta else SOLVERS[settings.solver]
    sampler = make_sampler(base.spec, base.params["vae"], solver, settings.steps)
    plain = from_base(base)

    def draw(
        model: Model,
        prompts: Sequence[tuple[str, int]],
        images: int,
        terms: Sequence[str] = (),
    ) -> Drawn:
        models = {"base": plain, CONCEPT: model} if terms else {"base": model}
        per_batch = max(1, settings.batch // images)
        # Pad the last batch, so that all batches share one compiled program.
        padded = [*prompts, *[prompts[-1]] * (-len(prompts) % per_batch)]
        parts = []
        for i in range(0, len(padded), per_batch):
            batch = padded[i : i + per_batch]
            term_specs = [
                [parse_term(term.replace("{}", text)) for term in terms]
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
            parts.append(x.reshape(-1, *x.shape[2:]))
        latents = jnp.concatenate(parts)[: len(prompts) * images]
        parts = [
            jax.device_get(sampler.decode_checked(latents[i : i + settings.batch]))
            for i in range(0, len(latents), settings.batch)
        ]
        finite = np.concatenate([part.finite for part in parts])
        failed = tuple(np.flatnonzero(~finite).tolist())
        pixels = np.concatenate([part.pictures for part in parts])
        return Drawn(pixels, np.asarray(latents), failed)

    return draw

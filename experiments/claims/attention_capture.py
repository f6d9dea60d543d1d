"""Cross-attention maps of words while pictures are sampled, and their overlap."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from personax.concepts.bind import Model, from_base
from personax.diffusion import attention_maps
from personax.diffusion.solvers import SOLVERS
from personax.loading import Base
from personax.networks.tokenizer import positions
from personax.sampling import prompt_terms
from personax.sampling.prompt_terms import TermSpec
from personax.sampling.sampler import make_sampler

Maps = Float[np.ndarray, "b y x"]


class Captured(NamedTuple):
    """Pictures of one prompt and the attention maps of the named words."""

    pixels: UInt8[np.ndarray, "b height width 3"]
    maps: tuple[Maps, ...]


# `(model, prompt, words, seed) -> Captured`
CaptureMaps = Callable[[Model, str, Sequence[str], int], Captured]


def make_capture(base: Base, settings: ConfigDict, images: int) -> CaptureMaps:
    """A function that samples `images` pictures of a prompt and captures its words.

    Maps are means over steps, sites, heads and a word's tokens. `settings` has an
    evaluation's `draw.solver`, `steps` and `guidance`. The function raises ValueError
    for a word that the prompt does not contain.
    """
    spec = base.spec
    shape = spec.latent_shape(*spec.size)
    maps_spec = attention_maps.make_map_spec(from_base(base).denoiser, shape)
    solver, steps = SOLVERS[settings.solver], settings.steps
    sampler = make_sampler(spec, base.params["vae"], solver, steps, attention=maps_spec)

    def capture(model: Model, prompt: str, words: Sequence[str], seed: int) -> Captured:
        models = {"base": model}
        terms = prompt_terms.to_terms(models, [TermSpec(prompt, settings.guidance)])
        key, indices = jax.random.key(seed), jnp.arange(images)
        latents, maps = sampler.latents(models, terms, key, indices)
        of_words = []
        for word in words:
            at = positions(model.tokenizer, prompt, word)
            if not at:
                raise ValueError(f"The prompt {prompt!r} does not contain {word!r}.")
            of_words.append(np.asarray(attention_maps.of_word(maps[1], at)))
        return Captured(np.asarray(sampler.decode(latents)), tuple(of_words))

    return capture


def shared_mass(one: Maps, other: Maps) -> Float[np.ndarray, " b"]:
    """The overlap of two maps, each normalised to sum 1: 1 if equal, 0 if disjoint."""
    p, q = (each / each.sum(axis=(1, 2), keepdims=True) for each in (one, other))
    return np.minimum(p, q).sum(axis=(1, 2))


def iou(one: Maps, other: Maps) -> Float[np.ndarray, " b"]:
    """Intersection over union of the regions above half of each map's maximum."""
    p, q = (
        np.asarray(attention_maps.object_region(jnp.asarray(each)))
        for each in (one, other)
    )
    return (p & q).sum(axis=(1, 2)) / (p | q).sum(axis=(1, 2))

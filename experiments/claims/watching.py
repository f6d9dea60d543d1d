"""Where the words of a prompt look, while pictures of it are drawn."""

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


class Seen(NamedTuple):
    """Pictures of one prompt, and where each of the words that were named looks."""

    pixels: UInt8[np.ndarray, "b height width 3"]
    maps: tuple[Maps, ...]


# `(model, prompt, words, seed) -> Seen`
Watch = Callable[[Model, str, Sequence[str], int], Seen]


def make_watch(base: Base, settings: ConfigDict, images: int) -> Watch:
    """A function that draws `images` pictures of a prompt and watches its words.

    Maps are means over steps, sites, heads and a word's tokens. `settings` are an
    evaluation's `draw`: solver, steps and guidance. Watching raises ValueError for a
    word that the prompt has not.
    """
    spec = base.spec
    shape = spec.latent_shape(*spec.size)
    look = attention_maps.make_map_spec(from_base(base).denoiser, shape)
    sampler = make_sampler(
        *(spec, base.params["vae"], SOLVERS[settings.solver], settings.steps),
        attention=look,
    )

    def watch(model: Model, prompt: str, words: Sequence[str], seed: int) -> Seen:
        terms = prompt_terms.to_terms(
            {"base": model}, [TermSpec(prompt, settings.guidance)]
        )
        key, indices = jax.random.key(seed), jnp.arange(images)
        latents, maps = sampler.latents({"base": model}, terms, key, indices)
        at = [_at(model, prompt, word) for word in words]
        own = [attention_maps.of_word(maps[1], each) for each in at]
        pixels = np.asarray(sampler.decode(latents))
        return Seen(pixels, tuple(map(np.asarray, own)))

    return watch


def _at(model: Model, prompt: str, word: str) -> tuple[int, ...]:
    found = positions(model.tokenizer, prompt, word)
    if not found:
        raise ValueError(f"{word!r} is no word of {prompt!r}.")
    return found

"""From edit options to Prompt-to-Prompt's streams and local blend."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from personax.concepts.bind import Model
from personax.diffusion import p2p
from personax.diffusion.alignment import DEFAULT
from personax.diffusion.p2p import Blend
from personax.diffusion.paired import Stream
from personax.networks.tokenizer import (
    Tokenizer,
    concept_mask,
    positions,
    unknown_placeholders,
)
from personax.sampling import prompt_terms
from personax.sampling.options import EditOptions
from personax.sampling.prompt_terms import TermSpec


def edit_term_specs(
    models: Mapping[str, Model], options: EditOptions
) -> list[TermSpec]:
    """The term of each stream, the source first.

    The base draws the source unless its prompt has a concept, so that a concept can
    replace something that the base draws.
    """
    last = list(models)[-1]
    unknown = unknown_placeholders(models["base"].tokenizer, [options.prompt])
    source = TermSpec(options.prompt, options.guidance, last if unknown else "base")
    return [source, *(TermSpec(edit, options.guidance, last) for edit in options.edits)]


def check_words(tokenizer: Tokenizer, options: EditOptions) -> None:
    """Raise ValueError for a word that is in none of its prompts."""
    both = (options.prompt, *options.edits)
    for flag, words, prompts in (
        ("reweight", options.factors, options.edits),
        ("cross_replace", set(options.cross) - {DEFAULT}, options.edits),
        ("blend", options.blend, both),
        ("subtract", options.subtract, both),
    ):
        for word in words:
            if not any(positions(tokenizer, prompt, word) for prompt in prompts):
                quoted = ", ".join(map(repr, prompts))
                raise ValueError(f"The word {word!r} of --{flag} is not in {quoted}.")


def make_streams(
    models: Mapping[str, Model], term_specs: Sequence[TermSpec], options: EditOptions
) -> list[Stream]:
    """The source, and the edits that follow it."""
    model = models[term_specs[-1].model]
    spec, phrases = model.denoiser.spec, phrases_of(model)
    if spec.unet.time_cond_proj_dim is not None:
        raise ValueError(
            "edit needs classifier-free guidance, which a UNet with distilled guidance "
            "(time_cond_proj_dim) does not have."
        )
    height, width, _ = spec.latent_shape(*spec.size)
    max_pixels = p2p.pixel_limit(spec.unet, height, width, options.self_limit)
    first, *others = [
        tuple(prompt_terms.to_terms(models, [x], unconditional=x.model))
        for x in term_specs
    ]
    streams = [Stream(first)]
    for edit, terms in zip(options.edits, others, strict=True):
        follow = p2p.follow(
            model.tokenizer,
            options.prompt,
            edit,
            steps=options.steps,
            kind=options.kind,
            cross=_words_of(model.tokenizer, edit, options.cross),
            within=options.within,
            max_pixels=max_pixels,
            factors=_words_of(model.tokenizer, edit, options.factors),
            phrases=phrases,
            compat=options.compat,
        )
        streams.append(Stream(terms, (None, follow)))
    return streams


def _words_of(
    tokenizer: Tokenizer, prompt: str, values: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of the words in this prompt; others may be in another edit's."""
    return {
        word: value
        for word, value in values.items()
        if word == DEFAULT or positions(tokenizer, prompt, word)
    }


def phrases_of(model: Model) -> list[str]:
    """Phrases that count as one word: "<v1> dog" may replace "cat"."""
    return [concept.phrase for concept in model.concepts]


def make_blend(tokenizer: Tokenizer, options: EditOptions) -> Blend | None:
    if not options.blend:
        return None

    def mask(words: Sequence[str]) -> Float[Array, "p 2 n"]:
        """Each stream's tokens of the words, in the prompt's term alone."""
        texts = (options.prompt, *options.edits)
        tokens = concept_mask(tokenizer, texts, words).any(0)
        return jnp.stack([jnp.zeros(tokens.shape), tokens.astype(np.float32)], 1)

    return Blend(
        words=mask(options.blend),
        threshold=jnp.asarray(options.threshold, jnp.float32),
        subtract=mask(options.subtract),
        subtract_threshold=jnp.asarray(options.subtract_threshold, jnp.float32),
        start=jnp.asarray(int(options.blend_start * options.steps)),
    )

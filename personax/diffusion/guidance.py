"""Guidance: a sum of weighted terms, each a model's prediction for a prompt.

    eps = sum_i w_i eps_i,  sum_i w_i = 1

which is Generalised Classifier-free Guidance (Cao et al. 2023, eq. 8), eps_0 +
sum_i w_i (eps_i - eps_0), with the unconditional prediction as a term of weight
1 - sum_i w_i.
"""

from collections.abc import Mapping, Sequence
from typing import cast

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from personax.core.typing import Latents
from personax.diffusion.denoiser import (
    Denoiser,
    Hint,
    Prompt,
    encode_at,
    encode_hint,
    network,
    uses_reference,
)
from personax.diffusion.sampling import NetworkFn

# One number, or one for each evaluation of the network.
Weight = Float[Array, ""] | Float[Array, " s"]


@struct.dataclass
class Term:
    """The prediction of `denoiser` for `prompt`, with a weight.

    `weight` is a number or one per network evaluation ("s"), as an array, so that other
    values do not recompile. `prompt` has a row per image, or one for all; so does
    `hint`, a picture in [0, 1] that the denoiser's ControlNet follows with `strength`
    (diffusers' conditioning scale; None is 1), which has the form of the weight.
    """

    prompt: Prompt
    weight: Weight
    denoiser: str = struct.field(pytree_node=False, default="base")
    hint: Float[Array, "b height width c"] | None = None
    strength: Weight | None = None


def complete(terms: Sequence[Term], null: Prompt, denoiser: str = "base") -> list[Term]:
    """The unconditional term, with weight 1 - sum_i w_i, followed by `terms`."""
    rest = 1 - sum((jnp.asarray(term.weight) for term in terms), jnp.zeros(()))
    return [Term(null, rest, denoiser), *terms]


def cfg(prompt: Prompt, null: Prompt, weight: Weight) -> list[Term]:
    """Classifier-free guidance, Ho & Salimans 2022, eq. 6, w = `weight`.

    A negative prompt replaces `null`.
    """
    return complete([Term(prompt, jnp.asarray(weight))], null)


def guide(denoisers: Mapping[str, Denoiser], terms: Sequence[Term]) -> NetworkFn:
    """The guided output of the network, a function of (x, t, index of the evaluation).

    It is eps, v or z0, as the networks predict: with weights that sum to 1, their
    weighted sum is of the same type.

    Terms of one denoiser share one batched call, so that CFG costs one call at twice
    the batch. Prompts that do not use the denoiser's reference are a call of their own,
    so that CFG with a reference costs three evaluations instead of four; so are terms
    without a hint, which need no ControlNet. Captured maps are returned as {index of
    the term: {site: probabilities}}. Raises KeyError for a term's unknown denoiser,
    ValueError without terms and for a hint to a denoiser without a ControlNet.
    """
    if not terms:
        raise ValueError("Guidance needs at least one term.")
    groups: dict[tuple[str, bool, bool], list[int]] = {}
    for j, term in enumerate(terms):
        if term.denoiser not in denoisers:
            raise KeyError(
                f"Unknown model {term.denoiser!r}; expected one of "
                f"{', '.join(denoisers)}."
            )
        referring = uses_reference(denoisers[term.denoiser], term.prompt)
        hinted = term.hint is not None
        groups.setdefault((term.denoiser, referring, hinted), []).append(j)
    hints = [hint_of(denoisers, term) for term in terms]

    def guided(x: Latents, t: Float[Array, ""], i: Int[Array, ""]):
        total, maps = jnp.zeros_like(x), {}
        for (name, _, hinted), group in groups.items():
            # Time-dependent texts are encoded once, not for each image.
            prompts = [encode_at(denoisers[name], terms[j].prompt, t) for j in group]
            inputs = _interleave([x] * len(group))
            hint = None
            if hinted:
                rows = [hint_at(terms[j], hints[j], i, x.shape[0]) for j in group]
                hint = jax.tree.map(lambda *row: _interleave(row), *rows)
            predicted, captured = network(
                denoisers[name],
                inputs,
                jnp.broadcast_to(t, inputs.shape[:1]),
                _stack(prompts, x.shape[0]),
                hint=hint,
            )
            rows = (x.shape[0], len(group))
            parts = predicted.reshape(*rows, *x.shape[1:])
            for place, j in enumerate(group):
                total = total + weight_at(terms[j], i, x.dtype) * parts[:, place]
                maps[j] = {
                    site: probs.reshape(*rows, *probs.shape[1:])[:, place]
                    for site, probs in captured.items()
                }
        return total, maps

    return guided


def weight_at(term: Term, i: Int[Array, ""], dtype) -> Float[Array, ""]:
    """The term's weight at the i-th evaluation of the network."""
    return _at(term.weight, i, dtype)


def hint_of(denoisers: Mapping[str, Denoiser], term: Term) -> Hint | None:
    """The term's encoded hint, computed once outside the scan."""
    return (
        None if term.hint is None else encode_hint(denoisers[term.denoiser], term.hint)
    )


def hint_at(
    term: Term, hint: Hint | None, i: Int[Array, ""], images: int
) -> Hint | None:
    """The encoded hint with a row per image and the strength at evaluation i."""
    if hint is None:
        return None
    features = jnp.broadcast_to(hint.features, (images, *hint.features.shape[1:]))
    strength = 1.0 if term.strength is None else term.strength
    return Hint(features, jnp.full((images,), _at(strength, i, features.dtype)))


def broadcast_prompt(prompt: Prompt, images: int) -> Prompt:
    """The prompt, as `encode_at` returns it, with a row per image."""

    def rows(x: Array, axis: int) -> Array:
        shape = list(x.shape)
        shape[axis] = images
        return jnp.broadcast_to(x, shape)

    assert prompt.text is not None
    concept_mask = None if prompt.concept_mask is None else rows(prompt.concept_mask, 1)
    guidance = None if prompt.guidance is None else rows(prompt.guidance, 0)
    text = rows(prompt.text, prompt.text.ndim - 3)
    return Prompt(text, concept_mask, guidance=guidance)


def _at(value: Weight | float, i: Int[Array, ""], dtype) -> Float[Array, ""]:
    value = jnp.asarray(value, dtype)
    return value[i] if value.ndim else value


def _stack(prompts: Sequence[Prompt], images: int) -> Prompt:
    """The prompts of each image as consecutive rows."""
    prompts = [broadcast_prompt(prompt, images) for prompt in prompts]
    # Texts that differ by layer have a leading axis, which the others get too.
    texts = [cast(Array, prompt.text) for prompt in prompts]
    layers = max(texts, key=lambda x: x.ndim).shape[:-3]
    texts = [jnp.broadcast_to(x, (*layers, *x.shape[-3:])) for x in texts]
    text = _interleave(texts, len(layers))
    # Terms of one denoiser, which all have a guidance weight or none.
    weights = [prompt.guidance for prompt in prompts if prompt.guidance is not None]
    guidance = _interleave(weights) if weights else None
    masks = [prompt.concept_mask for prompt in prompts]
    some = [mask for mask in masks if mask is not None]
    if not some:
        return Prompt(text, guidance=guidance)
    empty = jnp.zeros_like(some[0])
    masks = [empty if mask is None else mask for mask in masks]
    return Prompt(text, _interleave(masks, 1), guidance=guidance)


def _interleave(rows: Sequence[Array], axis: int = 0) -> Array:
    """Row i of each, then row i + 1 of each: an image's terms are on one device."""
    stacked = jnp.stack(rows, axis + 1)
    shape = stacked.shape
    return stacked.reshape(*shape[:axis], -1, *shape[axis + 2 :])

"""Guidance: a list of weighted terms, each a prompt to a model.

    eps = sum_i w_i eps_i,  sum_i w_i = 1

which is Generalised Classifier-free Guidance (Cao et al. 2023, eq. 8), eps_0 +
sum_i w_i (eps_i - eps_0), with the rest of the weight written as a term of its own.
"""

from collections.abc import Mapping, Sequence

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
    predict,
    uses_reference,
)
from personax.diffusion.sampling import EpsFn

# One number, or one for each evaluation of the network.
Weight = Float[Array, ""] | Float[Array, " s"]


@struct.dataclass
class Term:
    """One guidance: what `denoiser` predicts for `prompt`, with this weight.

    `weight` is one number, or one for each network evaluation ("s"): an array, so that
    another value compiles nothing. `prompt` has as many rows as there are images, or
    one for them all; so has `hint`, a picture in [0, 1] that the denoiser's ControlNet
    follows with `strength` (diffusers' conditioning scale, None is 1), an array as the
    weight is.
    """

    prompt: Prompt
    weight: Weight
    denoiser: str = struct.field(pytree_node=False, default="base")
    hint: Float[Array, "b height width c"] | None = None
    strength: Weight | None = None


def complete(terms: Sequence[Term], null: Prompt, denoiser: str = "base") -> list[Term]:
    """`terms` with the unconditional one before them, which takes 1 - sum_i w_i."""
    rest = 1 - sum((jnp.asarray(term.weight) for term in terms), jnp.zeros(()))
    return [Term(null, rest, denoiser), *terms]


def cfg(prompt: Prompt, null: Prompt, weight: Weight) -> list[Term]:
    """Classifier-free guidance, Ho & Salimans 2022, eq. 6, w = `weight`.

    A negative prompt is what stands in the place of `null`.
    """
    return complete([Term(prompt, jnp.asarray(weight))], null)


def interval(
    weight: Float[Array, ""], low: float, high: float, t: Float[Array, " s"]
) -> Float[Array, " s"]:
    """`weight` at the timesteps `t` inside [low, high], 1 outside.

    Guidance in a limited interval, Kynkäänniemi et al. 2024: outside it the single
    conditional term speaks alone. Meant for lists of one term beside the unconditional.
    """
    return jnp.where((t >= low) & (t <= high), weight, 1.0)


def guide(denoisers: Mapping[str, Denoiser], terms: Sequence[Term]) -> EpsFn:
    """The guided prediction as a function of (x, t, index of the evaluation).

    Terms of one denoiser share one batched call, so CFG costs one call at twice the
    batch; but of one that follows a reference, a prompt that marks no concept needs no
    reference and goes apart, so that CFG costs three evaluations and not four. So does
    a term without a hint, for which no ControlNet runs. The maps that are kept come as
    {index of the term: {site: probabilities}}. Raises KeyError for a term whose
    denoiser is not given, ValueError for no terms and for a hint to a denoiser without
    a ControlNet.
    """
    if not terms:
        raise ValueError("Guidance needs at least one term.")
    groups: dict[tuple[str, bool, bool], list[int]] = {}
    for j, term in enumerate(terms):
        if term.denoiser not in denoisers:
            raise KeyError(
                f"No model {term.denoiser!r}; there are: {', '.join(denoisers)}."
            )
        apart = uses_reference(denoisers[term.denoiser], term.prompt)
        shown = term.hint is not None
        groups.setdefault((term.denoiser, apart, shown), []).append(j)
    hints = [hint_of(denoisers, term) for term in terms]

    def eps(x: Latents, t: Float[Array, ""], i: Int[Array, ""]):
        total, maps = jnp.zeros_like(x), {}
        for (name, _, shown), group in groups.items():
            # What the words mean at this time is asked once, not for every image.
            prompts = [encode_at(denoisers[name], terms[j].prompt, t) for j in group]
            inputs = _interleave([x] * len(group))
            hint = None
            if shown:
                rows = [hint_at(terms[j], hints[j], i, x.shape[0]) for j in group]
                hint = jax.tree.map(lambda *row: _interleave(row), *rows)
            predicted, captured = predict(
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

    return eps


def weight_at(term: Term, i: Int[Array, ""], dtype) -> Float[Array, ""]:
    """The term's weight at the i-th evaluation of the network."""
    return _at(term.weight, i, dtype)


def hint_of(denoisers: Mapping[str, Denoiser], term: Term) -> Hint | None:
    """The term's hint as it is at all times: to be computed outside the scan."""
    return (
        None if term.hint is None else encode_hint(denoisers[term.denoiser], term.hint)
    )


def hint_at(
    term: Term, hint: Hint | None, i: Int[Array, ""], images: int
) -> Hint | None:
    """`hint_of` the term with a row for each image, and its strength at evaluation i.

    None stays None.
    """
    if hint is None:
        return None
    features = jnp.broadcast_to(hint.features, (images, *hint.features.shape[1:]))
    strength = 1.0 if term.strength is None else term.strength
    return Hint(features, jnp.full((images,), _at(strength, i, features.dtype)))


def broadcast_prompt(prompt: Prompt, images: int) -> Prompt:
    """The prompt, as `read` gives it, with a row for each image."""

    def rows(x: Array, axis: int) -> Array:
        shape = list(x.shape)
        shape[axis] = images
        return jnp.broadcast_to(x, shape)

    concept_mask = None if prompt.concept_mask is None else rows(prompt.concept_mask, 1)
    return Prompt(rows(prompt.text, prompt.text.ndim - 3), concept_mask)


def _at(value: Weight | float, i: Int[Array, ""], dtype) -> Float[Array, ""]:
    value = jnp.asarray(value, dtype)
    return value[i] if value.ndim else value


def _stack(prompts: Sequence[Prompt], images: int) -> Prompt:
    """For every image the prompts one below the other."""
    prompts = [broadcast_prompt(prompt, images) for prompt in prompts]
    # A text that differs by layer has that axis in front; the others get it.
    texts = [prompt.text for prompt in prompts]
    layers = max(texts, key=lambda x: x.ndim).shape[:-3]
    texts = [jnp.broadcast_to(x, (*layers, *x.shape[-3:])) for x in texts]
    text = _interleave(texts, len(layers))
    marks = [
        prompt.concept_mask for prompt in prompts if prompt.concept_mask is not None
    ]
    if not marks:
        return Prompt(text)
    # A prompt without the concepts' words marks no token.
    none = jnp.zeros_like(marks[0])
    concept_mask = [
        none if prompt.concept_mask is None else prompt.concept_mask
        for prompt in prompts
    ]
    return Prompt(text, _interleave(concept_mask, 1))


def _interleave(rows: Sequence[Array], axis: int = 0) -> Array:
    """Row i of each, then row i + 1 of each: an image's terms stay on its device."""
    stacked = jnp.stack(rows, axis + 1)
    shape = stacked.shape
    return stacked.reshape(*shape[:axis], -1, *shape[axis + 2 :])

"""Unmix (Han et al. 2023): penalise attention of a word to the other subject's half."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from personax.control.maps import Capture
from personax.core.typing import Probs
from personax.diffusion import schedule
from personax.diffusion.denoiser import network
from personax.methods.losses import Loss, draws, prompt_of


def unmix() -> Loss:
    """The squared attention to each subject's word in the other subject's half.

    Only rows mixed by `data.cut_mix` count; they mark two concepts, the left one first.
    The loss is the mean over these rows, both words, the cross-attention layers and the
    pixels of the wrong half; maps are averaged over heads. It uses the noise of the
    denoising loss in a second forward pass, so a step takes up to twice as long.
    """

    def loss(denoiser, batch, keys):
        spec = denoiser.spec
        x0, eps, t = draws(spec, batch.posterior, keys)
        x = schedule.noise(spec.schedule, x0, eps, t)
        t, prompt = t.astype(jnp.float32), prompt_of(denoiser, batch)
        _, maps = network(denoiser, x, t, prompt, controls=(Capture(),))
        h, w = x.shape[1:3]
        terms = [
            _misplaced(probs, batch.concept_mask, columns)
            for probs in maps.values()
            if (columns := round((probs.shape[2] * w / h) ** 0.5)) > 1
        ]
        value = jnp.stack(terms).mean()
        return value, {"loss": value}

    return loss


def sides(
    concept_mask: Bool[Array, "b k n"],
) -> tuple[Bool[Array, "b k"], Bool[Array, "b k"]]:
    """(concept k is on the left in row b, it is on the right), in mixed rows only."""
    marked = concept_mask.any(axis=2)
    first = jnp.where(marked, jnp.argmax(concept_mask, axis=2), concept_mask.shape[2])
    mixed = marked.sum(axis=1, keepdims=True) == 2
    left = marked & (first == first.min(axis=1, keepdims=True))
    return left & mixed, marked & ~left & mixed


def _misplaced(
    probs: Probs, concept_mask: Bool[Array, "b k n"], columns: int
) -> Float[Array, ""]:
    """The mean squared attention over mixed rows' words and the wrong half's pixels."""
    left, right = sides(concept_mask)
    attention = jnp.einsum(
        "bqn,bkn->bkq", probs.mean(axis=1), concept_mask.astype(jnp.float32)
    )
    column = jnp.arange(probs.shape[2]) % columns
    # In a map of odd width the middle column belongs to both halves.
    in_left, in_right = column < columns // 2, column >= columns - columns // 2
    wrong = left[..., None] & in_right[None, None]
    wrong |= right[..., None] & in_left[None, None]
    squares = jnp.square(attention) * wrong
    return squares.sum() / jnp.maximum(wrong.sum(), 1)

"""Unmix (Han et al. 2023): with two subjects side by side, a word keeps to its half."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from personax.control.maps import Capture
from personax.core.typing import Probs
from personax.diffusion import schedule
from personax.diffusion.denoiser import network
from personax.methods.losses import Loss, draws, prompt_of


def unmix() -> Loss:
    """The squared attention to each subject's word in the other one's half.

    Rows that `data.cut_mix` has mixed mark two concepts, the left one first; they
    alone count. The loss is the mean over them, both words, the cross-attention
    layers and the pixels of the wrong half; maps are averaged over heads. It reads the
    network at the denoising loss's noise but in a pass of its own, so a step takes up
    to twice as long.
    """

    def loss(denoiser, batch, keys):
        spec = denoiser.spec
        x0, eps, t = draws(spec, batch.posterior, keys)
        x = schedule.noise(spec.schedule, x0, eps, t)
        t, prompt = t.astype(jnp.float32), prompt_of(denoiser, batch)
        _, maps = network(denoiser, x, t, prompt, controls=(Capture(),))
        h, w = x.shape[1:3]
        terms = [
            _astray(probs, batch.concept_mask, columns)
            for probs in maps.values()
            if (columns := round((probs.shape[2] * w / h) ** 0.5)) > 1
        ]
        value = jnp.stack(terms).mean()
        return value, {"loss": value}

    return loss


def sides(
    concept_mask: Bool[Array, "b k n"],
) -> tuple[Bool[Array, "b k"], Bool[Array, "b k"]]:
    """(concept k is the left one of row b, it is the right one); of mixed rows only."""
    marked = concept_mask.any(axis=2)
    at = jnp.where(marked, jnp.argmax(concept_mask, axis=2), concept_mask.shape[2])
    mixed = marked.sum(axis=1, keepdims=True) == 2
    left = marked & (at == at.min(axis=1, keepdims=True))
    return left & mixed, marked & ~left & mixed


def _astray(
    probs: Probs, concept_mask: Bool[Array, "b k n"], columns: int
) -> Float[Array, ""]:
    """The mean square over the words of mixed rows and the wrong half's pixels."""
    left, right = sides(concept_mask)
    attention = jnp.einsum(
        "bqn,bkn->bkq", probs.mean(axis=1), concept_mask.astype(jnp.float32)
    )
    column = jnp.arange(probs.shape[2]) % columns
    # An odd map's middle column belongs to both.
    in_left, in_right = column < columns // 2, column >= columns - columns // 2
    wrong = left[..., None] & in_right[None, None]
    wrong |= right[..., None] & in_left[None, None]
    squares = jnp.square(attention) * wrong
    return squares.sum() / jnp.maximum(wrong.sum(), 1)

"""Concept-centric personalization (Cao et al. 2023): a UNet without text."""

from personax.methods import losses
from personax.methods.parts.base import Method
from personax.methods.parts.folded_null_text import null_text
from personax.methods.parts.weights import weights


def concept_centric(
    *,
    train: str = "unet_without_text",
    null_norm: str = "attn_mean",
    latents: int = 4,
    steps: int = 25,
    seed: int = 0,
    **denoising,
) -> Method:
    """All of the UNet that is left when its null text is folded, on images alone.

    On SD 1.5 815,533,444 numbers (sec. 4.3); the paper says 859 M, with what it has
    removed. See `null_text` for `null_norm`, `latents`, `steps` and `seed`. Captions
    are not read. Draw with Generalised Classifier-free Guidance (eq. 7): the base on
    the empty text as the unconditional term, this as one term, the base on a prompt as
    another. `denoising` are the options of `losses.denoising`.
    """
    parts = {
        "null_text": null_text(null_norm, latents=latents, steps=steps, seed=seed),
        "weights": weights(train),
    }
    return Method(parts, losses.denoising(**denoising))

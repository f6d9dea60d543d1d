"""Concept-centric personalization (Cao et al. 2023): a UNet without text."""

from personax.methods import losses
from personax.methods.arguments import Seed, Size, Steps
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.folded_null_text import null_text
from personax.methods.parts.weights import weights


@forwards(losses.denoising)
def concept_centric(
    *,
    train: str = "unet_without_text",
    null_norm: str = "attn_mean",
    latents: Size = 4,
    steps: Steps = 25,
    seed: Seed = 0,
    **denoising,
) -> Method:
    """The whole UNet after folding the null text, trained on images without captions.

    815,533,444 parameters on SD 1.5 (sec. 4.3); the paper's 859 M include the removed
    ones. See `null_text` for `null_norm`, `latents`, `steps` and `seed`. Sample with
    Generalised Classifier-free Guidance (eq. 7): the base on the empty text as the
    unconditional term, this model as one term, the base on a prompt as another.
    `denoising` are the options of `losses.denoising`.
    """
    parts = {
        "null_text": null_text(null_norm, latents=latents, steps=steps, seed=seed),
        "weights": weights(train),
    }
    return Method(parts, losses.denoising(**denoising))

"""Textual Inversion (Gal et al. 2022): new rows of the embedding table only."""

from personax.methods import losses
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.tokens import tokens


@forwards(losses.denoising)
def textual_inversion(**denoising) -> Method:
    """One row of the embedding table per vector of the concept; eq. 2.

    The config's `concept` sets the number of vectors, their initial word and the
    prompt templates. `denoising` are the options of `losses.denoising`.
    """
    return Method({"tokens": tokens()}, losses.denoising(**denoising))

"""Textual Inversion (Gal et al. 2022): new words, and nothing else."""

from personax.methods import losses
from personax.methods.parts.base import Method
from personax.methods.parts.tokens import tokens


def textual_inversion(**denoising) -> Method:
    """One row of the embedding table per vector of the concept; eq. 2.

    How many vectors, which word they start from and which templates they are seen in
    is said by the config's `concept`. `denoising` are the options of
    `losses.denoising`.
    """
    return Method({"tokens": tokens()}, losses.denoising(**denoising))

"""Extended Textual Inversion (Voynov et al. 2023), P+: a word for each layer."""

from collections.abc import Sequence

from personax.methods import losses
from personax.methods.parts.base import Method
from personax.methods.parts.conditioned_tokens import layered


def extended_textual_inversion(*, speak: Sequence[int] = (), **denoising) -> Method:
    """One row of the embedding table for each cross-attention layer: 16 in SD 1.5.

    Every layer reads the prompt with its own row in the concept's place. With `speak`
    only those layers do, numbered in the order of the forward pass, and the others read
    the word that V* started from: the coarse layers in the middle carry the shape, the
    outer ones the style. `denoising` are the options of `losses.denoising`.
    """
    return Method({"words": layered(speak)}, losses.denoising(**denoising))

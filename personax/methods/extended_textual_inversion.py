"""Extended Textual Inversion (Voynov et al. 2023), P+: an embedding per layer."""

from collections.abc import Sequence

from personax.methods import losses
from personax.methods.arguments import Index
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.conditioned_tokens import layered


@forwards(losses.denoising)
def extended_textual_inversion(*, speak: Sequence[Index] = (), **denoising) -> Method:
    """One embedding of the concept for each cross-attention layer: 16 in SD 1.5.

    `speak` restricts it to some layers, numbered in the order of the forward pass; the
    others read the word that V* started from. The coarse layers in the middle determine
    shape, the outer ones style. `denoising` are the options of `losses.denoising`.
    """
    return Method({"words": layered(speak)}, losses.denoising(**denoising))

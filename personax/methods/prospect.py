"""ProSpect (Zhang et al. 2023): a word that means something else at each stage."""

from collections.abc import Sequence

from personax.methods import losses
from personax.methods.parts.base import Method
from personax.methods.parts.conditioned_tokens import staged


def prospect(*, stages: int = 10, speak: Sequence[int] = (), **denoising) -> Method:
    """`stages` rows of the embedding table: at timestep t, row floor(t stages / T).

    The last row is said first, while the picture is mostly noise and gets its layout;
    row 0 at the end: material and style. With `speak` only those stages do, and at the
    others the word that V* started from stands in its place: an attribute is carried
    over and the rest left. The rows are trained as they are, with nothing between them
    and the text encoder. `denoising` are the options of `losses.denoising`.
    """
    return Method({"words": staged(stages, speak)}, losses.denoising(**denoising))

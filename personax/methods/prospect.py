"""ProSpect (Zhang et al. 2023): an embedding per stage of the diffusion process."""

from collections.abc import Sequence

from personax.methods import losses
from personax.methods.arguments import Index, Steps
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.conditioned_tokens import staged


@forwards(losses.denoising)
def prospect(*, stages: Steps = 10, speak: Sequence[Index] = (), **denoising) -> Method:
    """`stages` embeddings of the concept: at timestep t, number floor(t stages / T).

    Sampling starts with the last one, which determines layout, and ends with number 0,
    material and style. `speak` restricts the concept to some stages; in the others the
    word that V* started from takes its place, so that a single attribute is
    transferred. The embeddings are trained directly, without a network in between.
    `denoising` are the options of `losses.denoising`.
    """
    return Method({"words": staged(stages, speak)}, losses.denoising(**denoising))

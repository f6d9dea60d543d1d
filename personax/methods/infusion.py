"""Infusion (Zeng et al. 2024): residual values under the frozen model's own maps."""

from personax.methods import losses
from personax.methods.parts.activations import frozen_stream, residual
from personax.methods.parts.base import Method


def infusion(
    *,
    frozen_maps: bool = True,
    train: str = "v",
    vectors: int = 1,
    delta_space: str = "value",
    multi_piece: str = "all",
    **denoising,
) -> Method:
    """One residual per cross-attention layer, added to the values of the class word.

    Eq. 7: out = M_F V + m_F,obj (x) Delta, where M_F are the maps of the frozen model
    at the same latent, and eq. 8, the plain denoising loss. With a Delta as wide as the
    values, SD 1.5 has 12,480 numbers; the paper's "768" is `delta_space="text"`, 16 x
    768 = 12,288. Neither makes its 11 KB. Concepts trained apart add up (eq. 9).

    What the paper leaves open: a class word of several tokens carries its residual on
    every one, or on the `multi_piece="last"`; of several `vectors` per layer (sec. 6)
    the first sits at the word, the next on the tokens behind it. Self-attention is not
    swapped.

    The released code throws its frozen stream away and trains keys too, with a loss
    weighted by the square of a soft mask: `frozen_maps=False, train="kv",
    mask_norm="squared"` and `data.masks`.
    """
    if frozen_maps and train != "v":
        raise ValueError(
            'Keys decide only maps, and those are the frozen stream\'s: train="kv" '
            "would train nothing; it goes with frozen_maps=False."
        )
    parts = {"maps": frozen_stream()} if frozen_maps else {}
    parts["residual"] = residual(
        train=train, vectors=vectors, space=delta_space, pieces=multi_piece
    )
    return Method(parts, losses.denoising(**denoising))

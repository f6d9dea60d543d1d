"""Infusion (Zeng et al. 2024): residual values under the frozen model's own maps."""

from personax.methods import losses
from personax.methods.arguments import Size
from personax.methods.parts.activations import frozen_stream, residual
from personax.methods.parts.base import Method, forwards


@forwards(losses.denoising)
def infusion(
    *,
    frozen_maps: bool = True,
    train: str = "v",
    vectors: Size = 1,
    delta_space: str = "value",
    multi_piece: str = "all",
    **denoising,
) -> Method:
    """One residual per cross-attention layer, added to the values of the class word.

    Eq. 7: out = M_F V + m_F,obj (x) Delta, where M_F are the maps of the frozen model
    at the same latent; eq. 8: the plain denoising loss. A Delta in the width of the
    values has 12,480 parameters on SD 1.5; the paper's "768" is `delta_space="text"`,
    16 x 768 = 12,288. Neither matches its 11 KB. Concepts trained separately are summed
    (eq. 9).

    The paper leaves open how a class word of several tokens is handled: its residual is
    added to each, or with `multi_piece="last"` to the last. Of several `vectors` per
    layer (sec. 6) the first is added at the word, the others at the tokens after it.
    Self-attention is unchanged.

    The released code discards its frozen stream and trains keys as well, with a loss
    weighted by the square of a soft mask: `frozen_maps=False, train="kv",
    mask_norm="squared"` and `data.masks`.
    """
    if frozen_maps and train != "v":
        raise ValueError(
            'With frozen_maps, train="kv" has no effect on the keys: all maps are '
            "those of the frozen stream. Set frozen_maps=False."
        )
    parts = {"maps": frozen_stream()} if frozen_maps else {}
    parts["residual"] = residual(
        train=train, vectors=vectors, space=delta_space, pieces=multi_piece
    )
    return Method(parts, losses.denoising(**denoising))

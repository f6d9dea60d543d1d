"""DreamBooth (Ruiz et al. 2022): the whole UNet, and a rare word left as it is."""

from personax.methods import losses
from personax.methods.parts.base import Method
from personax.methods.parts.tokens import tokens
from personax.methods.parts.weights import drawn, weights


def dreambooth(
    *,
    train: str = "unet",
    text_encoder: bool = False,
    words: bool = False,
    fresh: bool = False,
    **denoising,
) -> Method:
    """Every UNet parameter, with `text_encoder` the text encoder's as well.

    Prior preservation (eq. 2) is a matter of the data: the config's `prior`. `words`
    adds a new word that trains, which DreamBooth does not have. `fresh` starts from a
    random draw: on a set with captions that is how a base is trained from scratch.
    `denoising` are the options of `losses.denoising`.
    """
    parts = {"weights": drawn(train) if fresh else weights(train)}
    if text_encoder:
        parts["text_encoder"] = weights("text_encoder/.*")
    if words:
        parts["tokens"] = tokens()
    return Method(parts, losses.denoising(**denoising))

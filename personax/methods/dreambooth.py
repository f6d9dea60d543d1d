"""DreamBooth (Ruiz et al. 2022): the whole UNet, with a rare word as identifier."""

from personax.methods import losses
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.tokens import tokens
from personax.methods.parts.weights import drawn, weights


@forwards(losses.denoising)
def dreambooth(
    *,
    train: str = "unet",
    text_encoder: bool = False,
    words: bool = False,
    from_scratch: bool = False,
    **denoising,
) -> Method:
    """Every UNet parameter; `text_encoder` adds the text encoder's.

    Prior preservation (eq. 2) is configured with the data: the config's `prior`.
    `words` adds a trained token, which DreamBooth does not have. `from_scratch` starts
    from random parameters instead of the base's, which trains a base on a captioned
    set. `denoising` are the options of `losses.denoising`.
    """
    parts = {"weights": drawn(train) if from_scratch else weights(train)}
    if text_encoder:
        parts["text_encoder"] = weights("text_encoder/.*")
    if words:
        parts["tokens"] = tokens()
    return Method(parts, losses.denoising(**denoising))

"""Custom Diffusion (Kumari et al. 2023): cross-attention K/V and a modifier token."""

from personax.control.detach import DetachBOS
from personax.methods import losses
from personax.methods.arguments import SizeOrNone
from personax.methods.parts.activations import control
from personax.methods.parts.base import Method, forwards
from personax.methods.parts.tokens import tokens
from personax.methods.parts.weights import lora, replace, weights


@forwards(losses.denoising)
def custom_diffusion(
    *, train: str = "kv", rank: SizeOrNone = 0, words: bool = True, **denoising
) -> Method:
    """Keys and values of every cross-attention and one new token; the rest is frozen.

    `train` is a parameter filter: "kv" is the paper's (sec. 3.2), "cross_attention" the
    released code's `crossattn` for faces, "unet" the paper's ablation that fine-tunes
    all weights. The other ablations: `rank` > 0 trains low-rank updates instead
    (app. C), `words=False` keeps V* at its rare token (sec. 4.3). `denoising` are the
    options of `losses.denoising`.
    """
    parts = {"weights": weights(train, lora(rank) if rank else replace())}
    if words:
        parts["tokens"] = tokens()
    parts["stop_first"] = control(DetachBOS())
    return Method(parts, losses.denoising(**denoising))

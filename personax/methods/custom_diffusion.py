"""Custom Diffusion (Kumari et al. 2023): cross-attention K/V and a modifier token."""

from personax.control.stop import StopFirst
from personax.methods import losses
from personax.methods.activations import control
from personax.methods.base import Method
from personax.methods.tokens import tokens
from personax.methods.weights import weights


def custom_diffusion(*, train: str = "kv") -> Method:
    """Keys and values of every cross-attention, one new word, the rest frozen.

    `train` is a parameter filter: "kv" is the paper's (sec. 3.2), "cross_attention"
    the released code's `crossattn` for faces.
    """
    parts = {
        "weights": weights(train),
        "tokens": tokens(),
        "stop_first": control(StopFirst()),
    }
    return Method(parts, losses.denoising)

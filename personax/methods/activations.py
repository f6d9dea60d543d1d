"""Rules in the activations: a part that installs an attention control."""

from personax.denoiser import Denoiser
from personax.methods.base import Part
from personax.networks.attention import Control
from personax.typing import Theta


def control(rule: Control) -> Part:
    """A control without anything to train, such as `StopFirst()`."""

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        return denoiser.replace(controls=(*denoiser.controls, rule))

    return Part(lambda key, params, concepts: {}, bind)

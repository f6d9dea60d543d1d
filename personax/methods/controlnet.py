"""ControlNet (Zhang et al. 2023): a copy of the encoder that learns to follow hints."""

from collections.abc import Sequence

from personax.core.typing import Ids, Key, Params, Theta
from personax.diffusion.denoiser import CONTROLNET, Denoiser, with_controlnet
from personax.methods import losses
from personax.methods.losses import Loss
from personax.methods.parts.base import Concept, Method, Part
from personax.networks.controlnet import ControlNetConfig, copy_encoder


def controlnet(*, channels: Sequence[int] = (16, 32, 96, 256), **denoising) -> Method:
    """The UNet's encoder once more, with a hint before it and zeros behind it.

    Eq. 5: the denoising loss under the picture's own caption and its hint, the UNet
    frozen. Half of the captions are left out in the paper (sec. 3.3), which is the
    config's `data.caption_dropout`. `channels` are the hint encoder's, which halves a
    hint once for each but the first: as often as the autoencoder does. On SD 1.5
    361,279,120 numbers. `denoising` are the options of `losses.denoising`.
    """
    loss = shown(losses.denoising(**denoising))
    return Method({CONTROLNET: _part(tuple(channels))}, loss)


def shown(loss: Loss) -> Loss:
    """`loss`; ValueError for a batch without hints, which would teach nothing."""

    def with_hints(denoiser, batch, keys):
        if batch.hint is None:
            raise ValueError(
                "The method controlnet learns from hints: --config.stream.hint canny."
            )
        return loss(denoiser, batch, keys)

    return with_hints


def _part(channels: tuple[int, ...]) -> Part:
    """Theta is the ControlNet's parameters, under their published names."""

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        return copy_encoder(key, params["unet"], channels)

    def prepare(denoiser: Denoiser, corpus: Ids | None) -> Denoiser:
        if CONTROLNET in denoiser.params:
            raise ValueError("The model has a ControlNet already; it takes one.")
        factor, own = denoiser.spec.vae.factor, 2 ** (len(channels) - 1)
        if own != factor:
            raise ValueError(
                f"channels {channels} halve a hint {len(channels) - 1} times, to "
                f"1/{own}; the autoencoder makes 1/{factor} of a picture."
            )
        return denoiser

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        config = ControlNetConfig.of(denoiser.spec.unet, channels)
        return with_controlnet(denoiser, theta, config)

    return Part(init, bind, prepare, needs="hints")

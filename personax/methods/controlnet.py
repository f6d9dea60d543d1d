"""ControlNet (Zhang et al. 2023): a trained copy of the encoder that reads hints."""

from collections.abc import Sequence

from personax.core.typing import Ids, Key, Params, Theta
from personax.diffusion.denoiser import CONTROLNET, Denoiser, with_controlnet
from personax.methods import losses
from personax.methods.arguments import Size
from personax.methods.losses import Loss
from personax.methods.parts.base import Concept, Method, Part, forwards
from personax.networks.controlnet import ControlNetConfig, copy_encoder


@forwards(losses.denoising)
def controlnet(*, channels: Sequence[Size] = (16, 32, 96, 256), **denoising) -> Method:
    """A copy of the UNet's encoder, with a hint encoder and zero convolutions.

    Eq. 5: the denoising loss given the picture's own caption and its hint, with the
    UNet frozen. The paper drops half of the captions (sec. 3.3): set the config's
    `data.caption_dropout`. `channels` are the hint encoder's; each but the first halves
    the resolution, and the total must match the autoencoder's factor. 361,279,120
    parameters on SD 1.5. `denoising` are the options of `losses.denoising`.
    """
    loss = requiring_hints(losses.denoising(**denoising))
    return Method({CONTROLNET: _part(tuple(channels))}, loss)


def requiring_hints(loss: Loss) -> Loss:
    """`loss`; ValueError for a batch without hints, from which nothing would train."""

    def with_hints(denoiser, batch, keys):
        if batch.hint is None:
            raise ValueError(
                "The method controlnet needs hints: --config.stream.hint canny."
            )
        return loss(denoiser, batch, keys)

    return with_hints


def _part(channels: tuple[int, ...]) -> Part:
    """Theta is the ControlNet's parameters, under their published names."""

    def init(key: Key, params: Params, concepts: Sequence[Concept]) -> Theta:
        return copy_encoder(key, params["unet"], channels)

    def prepare(denoiser: Denoiser, corpus: Ids | None) -> Denoiser:
        if CONTROLNET in denoiser.params:
            raise ValueError("The model already has a ControlNet; it takes only one.")
        factor, own = denoiser.spec.vae.factor, 2 ** (len(channels) - 1)
        if own != factor:
            raise ValueError(
                f"channels {channels} downsample a hint {len(channels) - 1} times, to "
                f"1/{own}; the autoencoder's latents are 1/{factor} of a picture."
            )
        return denoiser

    def bind(denoiser: Denoiser, theta: Theta) -> Denoiser:
        config = ControlNetConfig.of(denoiser.spec.unet, channels)
        return with_controlnet(denoiser, theta, config)

    requires = frozenset({"hints"})
    return Part(init, bind, prepare, requires=requires, exclusive="part")

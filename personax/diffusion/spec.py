"""The static description of a model: architectures, schedule, numerics."""

import dataclasses

from personax.diffusion.schedule import ScheduleConfig
from personax.networks.clip_text import CLIPTextConfig
from personax.networks.compute import Compute
from personax.networks.controlnet import ControlNetConfig
from personax.networks.unet import UNetConfig
from personax.networks.vae import VAEConfig


@dataclasses.dataclass(frozen=True)
class Spec:
    """Configs of a model's parts. Hashable: jit compiles once per spec."""

    unet: UNetConfig = UNetConfig()
    text_encoder: CLIPTextConfig = CLIPTextConfig()
    vae: VAEConfig = VAEConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    compute: Compute = Compute()
    controlnet: ControlNetConfig | None = None  # if the parameters have one

    @property
    def inpaints(self) -> bool:
        """Whether the UNet also reads a mask and the latents of the masked picture."""
        return self.unet.in_channels == 2 * self.vae.latent_channels + 1

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels of the base's training pictures."""
        side = self.unet.sample_size or 64
        h, w = (side, side) if isinstance(side, int) else side
        return h * self.vae.factor, w * self.vae.factor

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(h, w, c) of the latents of a picture.

        Raises ValueError for sides that are not multiples of the autoencoder's
        factor.
        """
        factor = self.vae.factor
        if height % factor or width % factor:
            raise ValueError(
                f"The size {width}x{height} must be a multiple of {factor} in both "
                f"directions, the autoencoder's factor."
            )
        return height // factor, width // factor, self.vae.latent_channels

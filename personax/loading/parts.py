"""Whether the parts of a pipeline fit each other, before any weights are read."""

from personax.networks.clip_text import CLIPTextConfig
from personax.networks.unet import UNetConfig
from personax.networks.vae import VAEConfig

# What UNets of other numbers of input channels read besides the latents.
_INPUTS = {
    5: "depth maps",
    7: "low-resolution pictures",
    8: "the picture to edit (InstructPix2Pix)",
}


def check_parts(unet: UNetConfig, vae: VAEConfig, text_encoder: CLIPTextConfig) -> None:
    """Raise ValueError, naming both numbers, for parts that do not fit each other."""
    latents = vae.latent_channels
    inpainting = 2 * latents + 1  # also a mask and a masked picture's latents
    if unet.in_channels not in (latents, inpainting):
        inputs = _INPUTS.get(unet.in_channels)
        more = f" it is one that also reads {inputs}, and" if inputs else ""
        raise ValueError(
            f"The UNet's in_channels is {unet.in_channels}, the autoencoder's "
            f"latent_channels {latents}:{more} only text-to-image ({latents}) and "
            f"inpainting UNets ({inpainting}) are supported."
        )
    if unet.out_channels != latents:
        raise ValueError(
            f"The UNet's out_channels is {unet.out_channels}, the autoencoder's "
            f"latent_channels {latents}; only UNets that predict latents alone are "
            "supported."
        )
    if unet.cross_attention_dim != text_encoder.hidden_size:
        raise ValueError(
            f"The UNet's cross_attention_dim is {unet.cross_attention_dim}, the text "
            f"encoder's hidden_size {text_encoder.hidden_size}; they must be equal."
        )
    for name in ("in_channels", "out_channels"):
        if getattr(vae, name) != 3:
            raise ValueError(
                f"The autoencoder's {name} is {getattr(vae, name)}; pictures have 3."
            )

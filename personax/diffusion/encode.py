"""The compiled encoders: pictures to posteriors, token ids to prompts."""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from personax.core import images
from personax.core.typing import Params
from personax.diffusion.denoiser import encode
from personax.networks import vae
from personax.networks.compute import Compute
from personax.networks.vae import Posterior, VAEConfig


@functools.partial(jax.jit, static_argnames=("config", "compute"))
def encode_pictures(
    params: Params,
    pixels: UInt8[Array, "b height width 3"] | Float[Array, "b height width 3"],
    *,
    config: VAEConfig,
    compute: Compute,
) -> Posterior:
    """The posterior of pictures under the autoencoder `params`.

    Pixels are uint8, or float in [-1, 1]. `vae.scale` makes latents of its mean.
    """
    if jnp.issubdtype(pixels.dtype, jnp.integer):
        pixels = images.to_float(pixels)
    return vae.encode(params, config, pixels, compute=compute)


encode_prompts = jax.jit(encode)  # `denoiser.encode`, compiled

"""Inception features for FID and KID."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from personax.core.images import Pixels
from personax.core.typing import Params
from personax.networks.inception import inception

Fitted = Float[np.ndarray, "299 299 3"]  # in [0, 255], not rounded

SIDE = 299
_BATCH = 32


def of_images(params: Params, pixels: Sequence[Pixels]) -> Float[np.ndarray, "n 2048"]:
    """The feature of each uint8 picture of any size, resized by `resize`."""
    # Equal batches, the last padded with zeros, so that the network compiles once.
    batches = math.ceil(len(pixels) / _BATCH)
    size = math.ceil(len(pixels) / batches)
    parts = []
    for i in range(0, len(pixels), size):
        x = np.stack([resize(each) for each in pixels[i : i + size]])
        padded = np.pad(x, ((0, size - len(x)), (0, 0), (0, 0), (0, 0)))
        parts.append(np.asarray(_features(params, padded))[: len(x)])
    return np.concatenate(parts)


def resize(pixels: Pixels) -> Fitted:
    """PIL's antialiased bicubic resizing to 299 x 299.

    Per channel in float32, clipped to [0, 255] and not rounded, as in clean-fid's mode
    "clean" (Parmar et al. 2022, "On Aliased Resizing and Surprising Subtleties in GAN
    Evaluation").
    """
    channels = []
    for i in range(3):
        image = Image.fromarray(pixels[..., i].astype(np.float32))
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        channels.append(np.asarray(image))
    return np.stack(channels, axis=-1).clip(0, 255)


@jax.jit
def _features(params: Params, images: Float[Array, "b 299 299 3"]) -> Array:
    # By default, GPUs and TPUs multiply with 10 or 8 bits of mantissa.
    with jax.default_matmul_precision("float32"):
        return inception(params, (images - 128) / 128)

"""DINO features; DINO-I is their mean cosine.

Over all pairs of a generated and a real picture of the subject (DreamBooth, Ruiz et al.
2023, sec. 4.2).
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from personax.core.images import Pixels
from personax.core.typing import Images, Params
from personax.loading.dino import Dino
from personax.metrics.features import normalized
from personax.networks.vit import ViTConfig, vit

_BATCH = 64


def of_images(dino: Dino, pixels: Sequence[Pixels]) -> Float[np.ndarray, "n d"]:
    """The class token's state of each uint8 picture, of unit length, float32."""
    parts = []
    for i in range(0, len(pixels), _BATCH):
        x = prepared(dino, pixels[i : i + _BATCH])
        parts.append(np.asarray(_feature(dino.params, dino.config, jnp.asarray(x))))
    return np.concatenate(parts)


def prepared(
    dino: Dino, pixels: Sequence[Pixels]
) -> Float[np.ndarray, "n side side 3"]:
    """The network's input, as in DINO's evaluation.

    For an `image_size` of 224 the shorter side is resized to 256 (bicubic), otherwise
    to 8/7 of it, rounded down; then the centre is cropped and normalised by ImageNet's
    mean and deviation. Pictures that already have the size are treated the same.
    """
    side = dino.config.image_size
    return normalized([_centre(Image.fromarray(x), side) for x in pixels], dino)


def _centre(image: Image.Image, side: int) -> Pixels:
    short = side * 256 // 224
    width, height = (short * n // min(image.size) for n in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    # torchvision's CenterCrop rounds half to even, as round() does.
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


@jax.jit(static_argnames="config")
def _feature(params: Params, config: ViTConfig, images: Images) -> Float[Array, "n d"]:
    first = vit(params, config, images)[:, 0]
    return first / jnp.linalg.norm(first, axis=1, keepdims=True)

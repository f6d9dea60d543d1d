"""Pictures as a DINO sees them: DINO-I is the mean cosine of these features.

Ruiz et al. 2023 (DreamBooth), Sec. 4.2: the mean over all pairs of a generated and a
real picture of the subject.
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
from personax.networks.vit import ViTConfig, vit

_BATCH = 64


def of_images(dino: Dino, pixels: Sequence[Pixels]) -> Float[np.ndarray, "n d"]:
    """The class token's state of each uint8 picture, of length 1, float32.

    Raises ValueError for no pictures.
    """
    if not pixels:
        raise ValueError("DINO features need at least one picture.")
    found = []
    for i in range(0, len(pixels), _BATCH):
        x = prepared(dino, pixels[i : i + _BATCH])
        found.append(np.asarray(_feature(dino.params, dino.config, jnp.asarray(x))))
    return np.concatenate(found)


def prepared(
    dino: Dino, pixels: Sequence[Pixels]
) -> Float[np.ndarray, "n side side 3"]:
    """What the network sees of each picture, as in DINO's own evaluation.

    For 224 pixels the shorter side is made 256 (bicubic) and the centre is cut out; for
    another `image_size` it is made 8/7 of that, rounded down. Then ImageNet's mean and
    deviation. A picture that has the size already is enlarged and cut all the same.
    """
    side = dino.config.image_size
    mean, std = np.array(dino.mean, np.float32), np.array(dino.std, np.float32)
    x = np.stack([_centre(Image.fromarray(each), side) for each in pixels])
    return (x.astype(np.float32) / 255 - mean) / std


def _centre(image: Image.Image, side: int) -> Pixels:
    short = side * 256 // 224
    width, height = (short * n // min(image.size) for n in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    # torchvision's CenterCrop rounds a half to the even pixel, as round() does.
    left, top = round((width - side) / 2), round((height - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


@jax.jit(static_argnames="config")
def _feature(params: Params, config: ViTConfig, images: Images) -> Float[Array, "n d"]:
    first = vit(params, config, images)[:, 0]
    return first / jnp.linalg.norm(first, axis=1, keepdims=True)

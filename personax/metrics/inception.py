"""Pictures as FID's Inception sees them: the features of FID and KID."""

import math
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float
from PIL import Image

from personax.core.images import Pixels
from personax.core.typing import Params
from personax.networks.inception import inception

Fitted = Float[np.ndarray, "299 299 3"]  # values in [0, 255], not rounded

SIDE = 299
_BATCH = 32


def of_images(
    params: Params, pixels: Sequence[Pixels], *, mode: str, unit: bool = False
) -> Float[np.ndarray, "n 2048"]:
    """Each uint8 picture's feature, as it is, or of length 1 if told.

    FID and KID are taken of features as they are. `mode` says how pictures come to
    299 x 299, and values of one are never to be compared with those of the other:
    "clean" is `resize_clean`, "tf1" is `resize_tf1`. Pictures may differ in size.
    Raises ValueError for another mode and for no pictures.
    """
    if mode not in _RESIZERS:
        raise ValueError(f"The mode {mode!r} is not one of {', '.join(_RESIZERS)}.")
    if not len(pixels):
        raise ValueError("There is no picture to take features of.")
    # Batches of one size, so that the network is compiled once; zeros fill the last.
    batches = math.ceil(len(pixels) / _BATCH)
    size = math.ceil(len(pixels) / batches)
    found = []
    for i in range(0, len(pixels), size):
        x = np.stack([_RESIZERS[mode](each) for each in pixels[i : i + size]])
        filled = np.pad(x, ((0, size - len(x)), (0, 0), (0, 0), (0, 0)))
        found.append(np.asarray(_features(params, filled))[: len(x)])
    features = np.concatenate(found)
    if unit:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    return features


def resize_clean(pixels: Pixels) -> Fitted:
    """By PIL's bicubic filter, which is widened to smooth what it makes smaller.

    Each channel alone, in float32, cut off at 0 and 255 and not rounded: what clean-fid
    does in its mode "clean" (Parmar et al. 2022, "On Aliased Resizing and Surprising
    Subtleties in GAN Evaluation").
    """
    channels = []
    for i in range(3):
        image = Image.fromarray(pixels[..., i].astype(np.float32))
        image = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        channels.append(np.asarray(image))
    return np.stack(channels, axis=-1).clip(0, 255)


def resize_tf1(pixels: Pixels) -> Fitted:
    """Bilinear between the two nearest rows and columns, whatever lies between others.

    Row i of the result is row i h / 299 of the picture: corners are not aligned and
    pixels' centres are not at halves, so the picture shifts up and left, and nothing is
    smoothed. It is ResizeBilinear of TensorFlow 1, which is part of the graph of
    2015-12-05, and what torch-fidelity and torchmetrics compute; in float32 throughout.
    """
    x = pixels.astype(np.float32)
    top, bottom, down = _neighbours(x.shape[0])
    left, right, across = _neighbours(x.shape[1])
    upper, lower = (
        _between(x[rows][:, left], x[rows][:, right], across[None, :, None])
        for rows in (top, bottom)
    )
    return _between(upper, lower, down[:, None, None])


def _neighbours(length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of 299 places: the index before, the one after, how far between."""
    place = np.arange(SIDE, dtype=np.float32) * np.float32(length / SIDE)
    before = place.astype(np.int32)
    after = np.minimum(before + 1, length - 1)
    return before, after, place - before.astype(np.float32)


def _between(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return one + (other - one) * share


_RESIZERS = {"clean": resize_clean, "tf1": resize_tf1}


@jax.jit
def _features(params: Params, images: Float[Array, "b 299 299 3"]) -> Array:
    # GPUs and TPUs would else round factors to 10 or 8 bits, which features show.
    with jax.default_matmul_precision("float32"):
        return inception(params, (images - 128) / 128)

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


def of_images(
    params: Params, pixels: Sequence[Pixels], *, mode: str, unit: bool = False
) -> Float[np.ndarray, "n 2048"]:
    """The feature of each uint8 picture, of unit length if `unit`.

    FID and KID use features that are not normalised. `mode` selects the resizing to
    299 x 299: "clean" is `resize_clean`, "tf1" is `resize_tf1`; values of different
    modes are not comparable. Pictures may differ in size. Raises ValueError for another
    mode and without pictures.
    """
    if mode not in _RESIZERS:
        raise ValueError(f"Unknown mode={mode!r}; expected {' or '.join(_RESIZERS)}.")
    if not len(pixels):
        raise ValueError("Inception features require at least one picture.")
    # Equal batches, the last padded with zeros, so that the network compiles once.
    batches = math.ceil(len(pixels) / _BATCH)
    size = math.ceil(len(pixels) / batches)
    parts = []
    for i in range(0, len(pixels), size):
        x = np.stack([_RESIZERS[mode](each) for each in pixels[i : i + size]])
        padded = np.pad(x, ((0, size - len(x)), (0, 0), (0, 0), (0, 0)))
        parts.append(np.asarray(_features(params, padded))[: len(x)])
    features = np.concatenate(parts)
    if unit:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    return features


def resize_clean(pixels: Pixels) -> Fitted:
    """PIL's antialiased bicubic resizing.

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


def resize_tf1(pixels: Pixels) -> Fitted:
    """TensorFlow 1's bilinear resizing, without antialiasing, in float32.

    Row i of the result is row i h / 299 of the picture: neither corners nor pixel
    centres are aligned, which shifts the picture up and left. This is ResizeBilinear in
    the Inception graph of 2015-12-05, as in torch-fidelity and torchmetrics.
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
    """(index before, index after, fraction between them) of each of 299 positions."""
    place = np.arange(SIDE, dtype=np.float32) * np.float32(length / SIDE)
    before = place.astype(np.int32)
    after = np.minimum(before + 1, length - 1)
    return before, after, place - before.astype(np.float32)


def _between(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return one + (other - one) * share


_RESIZERS = {"clean": resize_clean, "tf1": resize_tf1}


@jax.jit
def _features(params: Params, images: Float[Array, "b 299 299 3"]) -> Array:
    # By default, GPUs and TPUs multiply with 10 or 8 bits of mantissa.
    with jax.default_matmul_precision("float32"):
        return inception(params, (images - 128) / 128)

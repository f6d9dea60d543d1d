"""CLIP features of pictures and texts, and zero-shot classification."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from personax.core import images
from personax.loading.clip import Clip
from personax.networks.clip import image_features, text_features
from personax.networks.tokenizer import tokenize

_BATCH = 256


def of_images(
    clip: Clip, pixels: Sequence[images.Pixels], *, unit: bool = True
) -> Float[np.ndarray, "n d"]:
    """The feature of each uint8 picture, of unit length if `unit`.

    Pictures of other sizes are resized to the tower's. Use `unit=False` for Fréchet
    distances, as clean-fid does with CLIP.
    """
    side = clip.config.vision_config.image_size
    mean, std = np.array(clip.mean, np.float32), np.array(clip.std, np.float32)
    parts = []
    for i in range(0, len(pixels), _BATCH):
        x = np.stack([_fitted(each, side) for each in pixels[i : i + _BATCH]])
        x = (x.astype(np.float32) / 255 - mean) / std
        parts.append(np.asarray(_image(clip.params, clip.config, jnp.asarray(x))))
    features = np.concatenate(parts)
    return _unit(features) if unit else features


def of_texts(clip: Clip, prompts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """The unit feature of each prompt."""
    ids = jnp.asarray(tokenize(clip.tokenizer, list(prompts)))
    return _unit(np.asarray(_text(clip.params, clip.config, ids)))


def zero_shot(
    clip: Clip, pixels: Sequence[images.Pixels], prompts: Sequence[str]
) -> Int[np.ndarray, " n"]:
    """The index of the prompt that is closest to each picture."""
    return (of_images(clip, pixels) @ of_texts(clip, prompts).T).argmax(axis=1)


def _fitted(pixels: images.Pixels, side: int) -> images.Pixels:
    if pixels.shape[:2] == (side, side):
        return pixels
    return images.to_uint8(images.fit(pixels, side))


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


_image = jax.jit(image_features, static_argnames="config")
_text = jax.jit(text_features, static_argnames="config")

"""CLIP features of pictures and texts, and scores of pictures by them."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from personax.core import images
from personax.loading.clip import Clip
from personax.metrics.features import normalized
from personax.networks.clip import image_features, text_features
from personax.networks.tokenizer import tokenize

_BATCH = 256

# A score of pictures; higher is better.
Score = Callable[[Sequence[images.Pixels]], float]


def of_images(
    clip: Clip, pixels: Sequence[images.Pixels], *, unit: bool = True
) -> Float[np.ndarray, "n d"]:
    """The feature of each uint8 picture, of unit length if `unit`.

    Pictures of other sizes are resized to the tower's. Use `unit=False` for Fréchet
    distances, as clean-fid does with CLIP.
    """
    side = clip.config.vision_config.image_size
    parts = []
    for i in range(0, len(pixels), _BATCH):
        fitted = [_fitted(each, side) for each in pixels[i : i + _BATCH]]
        x = normalized(fitted, clip)
        parts.append(np.asarray(_image(clip.params, clip.config, jnp.asarray(x))))
    features = np.concatenate(parts)
    return _unit(features) if unit else features


def of_texts(clip: Clip, prompts: Sequence[str]) -> Float[np.ndarray, "n d"]:
    """The unit feature of each prompt."""
    ids = jnp.asarray(tokenize(clip.tokenizer, list(prompts)))
    return _unit(np.asarray(_text(clip.params, clip.config, ids)))


def make_scores(
    clip: Clip, *, text: str | None = None, reference: Sequence[images.Pixels] = ()
) -> dict[str, Score]:
    """{"text": CLIP-T, "image": CLIP-I} of the targets that are given.

    CLIP-T is the mean cosine of the pictures with `text`, CLIP-I the mean cosine over
    all pairs of a picture and a reference.
    """

    def mean_cosine(target: Float[np.ndarray, "n d"]) -> Score:
        return lambda pictures: float((of_images(clip, pictures) @ target.T).mean())

    scores = {}
    if text:
        scores["text"] = mean_cosine(of_texts(clip, [text]))
    if reference:
        scores["image"] = mean_cosine(of_images(clip, reference))
    return scores


def _fitted(pixels: images.Pixels, side: int) -> images.Pixels:
    if pixels.shape[:2] == (side, side):
        return pixels
    return images.to_uint8(images.fit(pixels, side))


def _unit(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


_image = jax.jit(image_features, static_argnames="config")
_text = jax.jit(text_features, static_argnames="config")

"""What pictures are scored by: how near CLIP finds them to a text or to pictures."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from personax import images
from personax.images import Pixels
from personax.loading import Clip
from personax.networks.clip import image_features, text_features
from personax.networks.tokenizer import tokenize

# The larger the better.
Score = Callable[[Sequence[Pixels]], float]


def make_scores(
    clip: Clip, *, text: str = "", reference: Sequence[Pixels] = ()
) -> dict[str, Score]:
    """{name: score} of what is given: alignment with a `text`, with the `reference`.

    Both are mean cosines in CLIP's space: "text" over pictures (CLIP-T), "image" over
    all pairs of a picture and a reference (CLIP-I).
    """

    @jax.jit
    def of_images(params, x):
        return _unit(image_features(params, clip.config, x))

    @jax.jit
    def of_text(params, ids):
        return _unit(text_features(params, clip.config, ids))

    def see(pictures: Sequence[Pixels]) -> Float[np.ndarray, "b d"]:
        return np.asarray(of_images(clip.params, preprocess(clip, pictures)))

    def against(target: Float[np.ndarray, "n d"]) -> Score:
        return lambda pictures: float((see(pictures) @ target.T).mean())

    scores = {}
    if text:
        ids = jnp.asarray(tokenize(clip.tokenizer, [text]))
        scores["text"] = against(np.asarray(of_text(clip.params, ids)))
    if reference:
        # One at a time: a compilation for one, whatever the number of references.
        rows = [see([picture]) for picture in reference]
        scores["image"] = against(np.concatenate(rows))
    return scores


def preprocess(clip: Clip, pictures: Sequence[Pixels]) -> Float[np.ndarray, "b s s 3"]:
    """The pictures as CLIP's vision tower takes them: cut square, resized, normed."""
    side = clip.config.vision_config.image_size
    x = np.stack([(images.fit(each, side) + 1) / 2 for each in pictures])
    mean, std = (np.asarray(each, np.float32) for each in (clip.mean, clip.std))
    return (x - mean.reshape(1, 1, 1, 3)) / std.reshape(1, 1, 1, 3)


def _unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)

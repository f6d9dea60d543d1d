"""CLIP scores of pictures: alignment with a text or with reference pictures."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from personax.core.images import Pixels
from personax.loading import Clip
from personax.metrics.clip import of_images, of_texts

# A score of pictures; higher is better.
Score = Callable[[Sequence[Pixels]], float]


def make_scores(
    clip: Clip, *, text: str | None = None, reference: Sequence[Pixels] = ()
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

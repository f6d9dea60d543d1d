"""What pictures are scored by: how near CLIP finds them to a text or to pictures."""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from personax.core.images import Pixels
from personax.loading import Clip
from personax.metrics.clip import of_images, of_texts

# The larger the better.
Score = Callable[[Sequence[Pixels]], float]


def make_scores(
    clip: Clip, *, text: str = "", reference: Sequence[Pixels] = ()
) -> dict[str, Score]:
    """{name: score} of what is given: alignment with a `text`, with the `reference`.

    Both are mean cosines in CLIP's space: "text" over pictures (CLIP-T), "image" over
    all pairs of a picture and a reference (CLIP-I).
    """

    def against(target: Float[np.ndarray, "n d"]) -> Score:
        return lambda pictures: float((of_images(clip, pictures) @ target.T).mean())

    scores = {}
    if text:
        scores["text"] = against(of_texts(clip, [text]))
    if reference:
        scores["image"] = against(of_images(clip, reference))
    return scores

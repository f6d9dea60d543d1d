"""What pictures on the embedded base are judged by: its own CLIP, and fixed prompts."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from personax import images, preview
from personax.data import concepts
from personax.loading import Base, load_clip
from personax.metrics import clip

# Places that no subject was photographed in.
_EVERYONE = (
    "a photo of a {}",
    "a photo of a {} at night",
    "a photo of a {} in the desert",
    "a photo of a {} under the sea",
    "a photo of a {} with a mountain in the background",
    "a photo of a {} on a purple background",
    "a photo of a {} on a red background",
    "a photo of a {} on a green background",
)
PROMPTS = {
    "live": (
        *_EVERYONE,
        "a photo of a {} wearing a top hat",
        "a photo of a {} wearing sunglasses at night",
    ),
    "object": (
        *_EVERYONE,
        "a photo of a {} on a pink background",
        "a far away photo of a {} at night",
    ),
}
IMAGES, STEPS, GUIDANCE, SEED = 4, 25, 3.0, 1


class Judge:
    """The embedded CLIP."""

    def __init__(self):
        self.clip = load_clip()

    def images(self, pixels: Sequence[images.Pixels]) -> np.ndarray:
        """Unit image features, a row each."""
        return clip.of_images(self.clip, pixels)

    def text(self, prompt: str) -> np.ndarray:
        """The unit feature of a prompt, "1 d"."""
        return clip.of_texts(self.clip, [prompt])

    def score(self, drawn, asked: Sequence[str], subjects: Sequence[str]) -> "Score":
        """Mean cosines of each prompt's pictures with the subjects and the prompts."""
        references = [self.images(concepts.pictures(name)) for name in subjects]
        image, text = [], []
        for prompt, pictures in zip(asked, drawn, strict=True):
            features = self.images(pictures)
            own = [float((features @ each.T).mean()) for each in references]
            image.append(float(np.mean(own)))
            text.append(float((features @ self.text(prompt).T).mean()))
        return Score(round(float(np.mean(image)), 3), round(float(np.mean(text)), 3))


class Score(NamedTuple):
    """Alignment with the subjects' pictures and with the prompts."""

    image: float
    text: float


def make_painter(base: Base) -> preview.Paint:
    """`(model, prompts) -> rows of pictures`, the same seeds each time."""
    return preview.make_paint(
        base,
        base.spec,
        base.spec.size,
        count=IMAGES,
        steps=STEPS,
        guidance=GUIDANCE,
        seed=SEED,
    )

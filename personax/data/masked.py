"""Pictures with a random part masked, for training inpainting models."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Float

from personax.core import images
from personax.data.dataset import Dataset, Rows

_WHOLE = 0.25  # the share of pictures of which everything is masked
_SEED = 5  # apart from the seeds of pictures and captions


def random_mask(
    rng: np.random.Generator, height: int, width: int
) -> Bool[np.ndarray, "height width"]:
    """True where a picture is masked: a rectangle, an ellipse, or everywhere.

    A quarter of the masks cover the picture, as in the training of Stable Diffusion
    1.5's inpainting model (its model card: "in 25% mask everything"). The others are
    distributed as in diffusers' train_dreambooth_inpaint: a rectangle or an ellipse
    with equal probability, its sides uniform between 1 and the picture's, its place
    uniform among those inside the picture.
    """
    if rng.random() < _WHOLE:
        return np.ones((height, width), bool)
    sides = rng.integers(1, [height, width], endpoint=True)
    top, left = rng.integers(0, np.array([height, width]) - sides, endpoint=True)
    y, x = np.ogrid[:height, :width]
    # From -1 to 1 across the sides, at the centres of pixels.
    y = 2 * (y + 0.5 - top) / sides[0] - 1
    x = 2 * (x + 0.5 - left) / sides[1] - 1
    if rng.random() < 0.5:
        return np.maximum(np.abs(y), np.abs(x)) <= 1
    return y**2 + x**2 <= 1


class Masked(Dataset):
    """Another dataset, with a `random_mask` of every picture of every step.

    Rows also have "masked", the pictures, grey (0) where they are masked, and
    "repaint", the mask at the size of the latents, where a cell is masked as its first
    pixel is. All else stays as it is. The mask of a row depends on the seed, the step
    and the row. The dataset's rows must have pictures, not latents.
    """

    def __init__(self, dataset: Dataset, factor: int, seed: int):
        self.dataset, self.factor, self.seed = dataset, factor, seed
        self.rows_per_step, self.steps = dataset.rows_per_step, dataset.steps
        self.first_row = dataset.first_row
        self.workers, self.digest = dataset.workers, dataset.digest
        self.skipped, self.items = dataset.skipped, dataset.items
        self.captions, self.caption_chunk = dataset.captions, dataset.caption_chunk
        self.has_text = dataset.has_text

    def step(self, step: int) -> Rows:
        rows = self.dataset.step(step)
        masked, cells = [], []
        pictures = self._pictures(rows)
        for row, pixels in enumerate(pictures, start=self.dataset.first_row):
            rng = np.random.default_rng([self.seed, step, row, 0, _SEED])
            mask = random_mask(rng, *pixels.shape[:2])
            masked.append(np.where(mask[..., None], np.float32(0), pixels))
            cells.append(mask[:: self.factor, :: self.factor].astype(np.float32))
        return {**rows, "masked": np.stack(masked), "repaint": np.stack(cells)}

    def preview(self, count: int) -> list[np.ndarray]:
        return self.dataset.preview(count)

    def fingerprint(self) -> Mapping[str, str]:
        return self.dataset.fingerprint()

    def _pictures(self, rows: Rows) -> list[Float[np.ndarray, "height width 3"]]:
        """The pictures of the rows, in [-1, 1]."""
        pixels = [
            images.to_float(each) if each.dtype == np.uint8 else each
            for each in rows.get("pixels", ())
        ]
        return pixels + [self.items[item]() for item in rows.get("item", ())]

"""Few-shot sets: the pictures of a concept, and which of them each step sees."""

import pathlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

from personax.data import emoji
from personax.images import fit, read_images


def pictures(source: str, size: tuple[int, int]) -> Float[np.ndarray, "n h w 3"]:
    """float32 [-1, 1] pictures of a folder, or of a bundled subject by its name.

    `size` is (height, width); larger pictures are cropped at the centre and resized.
    Raises ValueError, naming what exists, where `source` is neither.
    """
    folder = pathlib.Path(source)
    if folder.is_dir():
        files = read_images(folder)
    else:
        subjects = emoji.subjects()
        if source not in subjects:
            raise ValueError(
                f"{source!r} is neither a folder nor a bundled subject; those are: "
                f"{', '.join(subjects)}."
            )
        files = read_images(subjects[source].images)
    return np.stack([fit(pixels, size) for pixels in files.values()])


def visits(
    count: int, batch: int, seed: int, start: int = 0
) -> Iterator[Int[np.ndarray, " batch"]]:
    """Which of `count` examples step i visits, from i = `start` on, without end.

    Every epoch is a permutation of its own. A step's batch depends on the seed and the
    step alone, so that a resumed run sees what it would have seen.
    """
    step = start
    while True:
        slots = np.arange(step * batch, (step + 1) * batch)
        orders = {
            epoch: np.random.default_rng([seed, epoch]).permutation(count)
            for epoch in np.unique(slots // count)
        }
        yield np.array([orders[slot // count][slot % count] for slot in slots])
        step += 1
